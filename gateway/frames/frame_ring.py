"""The last frames of a live stream, in memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.frames.frames import FrameReader, Frames
from maskmesh.errors import FrameOutOfMemory, InvalidRequest
from maskmesh.types import Image

# A prompt reaches back 8 frames that were delivered, and so many results may be lost when a stream breaks;
# as many again may be under way.
KEPT_FRAMES = 16

# Of so many frames a client that resumes late is told that they are lost.
KNOWN_SEQUENCES = 1024


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """One frame, and its number as the client sent it."""

    image: Image
    sequence: int


class RingState(NamedTuple):
    """What a ring is besides the pictures in it."""

    num_frames: int
    width: int
    height: int
    next_sequence: int
    skipped: Sequence[int]
    kept: Sequence[tuple[int, int]]
    """Index and number of each frame that is held."""


class FrameRing(Frames):
    """Takes in frame after frame and keeps the last of them.  Used on one event loop only."""

    def __init__(self) -> None:
        self.next_sequence = 0
        """The client's number of the frame after the last that was taken in."""
        self.skipped: list[int] = []
        """Frames that were left out and not reported yet, by the client's numbers."""
        self.on_append: Callable[[], None] = lambda: None
        """Called after each frame that was taken in."""
        self._kept: dict[int, KeptFrame] = {}
        self._sequences: dict[int, int] = {}  # of more frames than are kept

    def append(self, image: Image, sequence: int) -> int:
        """Add a frame that :meth:`check_size` has let in; returns its index."""
        index = self.num_frames
        self._kept[index] = KeptFrame(image, sequence)
        self._kept.pop(index - KEPT_FRAMES, None)
        self._sequences[index] = sequence
        self._sequences.pop(index - KNOWN_SEQUENCES, None)
        self.num_frames += 1
        self.next_sequence = sequence + 1
        self.on_append()
        return index

    def kept(self) -> dict[int, KeptFrame]:
        """The frames that are held, by index."""
        return dict(self._kept)

    def state(self) -> RingState:
        """What it is besides the pictures."""
        kept = [(index, frame.sequence) for index, frame in self._kept.items()]
        return RingState(
            self.num_frames, self.width, self.height, self.next_sequence, list(self.skipped), kept
        )

    def restore(self, state: RingState, kept: Mapping[int, KeptFrame]) -> None:
        """Become what another ring was."""
        self.num_frames, self.width, self.height = state.num_frames, state.width, state.height
        self.next_sequence, self.skipped = state.next_sequence, list(state.skipped)
        self._kept = dict(sorted(kept.items()))
        self._sequences |= {index: frame.sequence for index, frame in kept.items()}

    def go_on_at(self, frame_index: int, sequence: int) -> None:
        """Let ``frame_index`` be the next one, and the client's ``sequence``, where they are not already.

        Another ring may have come further than what was known of it.
        """
        self.num_frames = max(self.num_frames, frame_index)
        self.next_sequence = max(self.next_sequence, sequence)

    def check_size(self, size: tuple[int, int], *, field: str) -> None:
        """Raises InvalidRequest where a frame has another size (width, height) than the first."""
        if not self.width:
            self.width, self.height = size
        if size != (self.width, self.height):
            raise InvalidRequest(
                f"the frame is {size[0]} x {size[1]}, the others {self.width} x {self.height}", field=field
            )

    def check_index(self, frame_index: int, *, field: str = "frame_index") -> None:
        """Raises InvalidRequest for a frame that never was, FrameOutOfMemory for one that is not held."""
        super().check_index(frame_index, field=field)
        self._get(frame_index)

    def sequence(self, frame_index: int) -> int:
        """The client's number of a frame.  Raises FrameOutOfMemory."""
        return self._get(frame_index).sequence

    def index_of(self, sequence: int) -> int:
        """The index of a frame by the client's number.

        Raises FrameOutOfMemory where it is no longer held, or was left out.
        """
        for index, kept in self._kept.items():
            if kept.sequence == sequence:
                return index
        raise FrameOutOfMemory(
            f"frame {sequence} is not among the last {KEPT_FRAMES} that were tracked",
            sequence=sequence,
            oldest_sequence=min((k.sequence for k in self._kept.values()), default=""),
        )

    def kept_from(self, frame_index: int) -> range:
        """The frames from an index on that are still held."""
        return range(max(frame_index, min(self._kept, default=self.num_frames)), self.num_frames)

    def lost_from(self, frame_index: int) -> list[int]:
        """The client's numbers of frames from an index on that are no longer held, where they are known."""
        return [
            self._sequences[i] for i in range(frame_index, min(self._kept, default=0)) if i in self._sequences
        ]

    def open_reader(self, *, reverse: bool = False) -> FrameReader:
        """See Frames."""
        return _RingReader(self)

    def read(self, frame_index: int) -> Image:
        """One frame.  Raises FrameOutOfMemory."""
        return self._get(frame_index).image

    def _get(self, frame_index: int) -> KeptFrame:
        if frame_index not in self._kept:
            raise FrameOutOfMemory(
                f"of a live stream the last {KEPT_FRAMES} frames are held",
                frame_index=frame_index,
                oldest_frame_index=min(self._kept, default=""),
            )
        return self._kept[frame_index]


class _RingReader(FrameReader):
    def __init__(self, ring: FrameRing) -> None:
        self._ring = ring

    async def read(self, frame_index: int) -> Image:
        """See FrameReader."""
        return self._ring.read(frame_index)
