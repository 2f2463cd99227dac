"""The last frames of a live stream, in memory."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.frames.frames import FrameReader, Frames
from maskmesh.errors import FrameOutOfMemory, InvalidRequest
from maskmesh.types import Image

# Prompts may refer to the last 8 delivered frames, and a broken stream may lose that many results; up to 8
# more frames are in progress.
KEPT_FRAMES = 16

# Number of frames whose sequence numbers are kept, to report dropped frames to a client that resumes late.
KNOWN_SEQUENCES = 1024


@dataclass(frozen=True, slots=True)
class KeptFrame:
    """One frame, and the sequence number that the client sent with it."""

    image: Image
    sequence: int


class RingState(NamedTuple):
    """A ring without its images."""

    num_frames: int
    width: int
    height: int
    next_sequence: int
    skipped: Sequence[int]
    """Numbers of frames without an index, also of those that were reported."""
    kept: Sequence[tuple[int, int]]
    """Index and sequence number of each frame that is held."""


class FrameRing(Frames):
    """The last frames of a live stream.  Used on one event loop only."""

    is_live = True

    def __init__(self) -> None:
        self.next_sequence = 0
        """The client's sequence number of the next frame."""
        self.skipped: list[int] = []
        """Sequence numbers of skipped frames that are not reported yet."""
        # Numbers of frames without an index, skipped or equal to others, reported or not.
        self._without_index: deque[int] = deque(maxlen=KNOWN_SEQUENCES)
        self.on_append: Callable[[], None] = lambda: None
        """Called after each :meth:`append`."""
        self._kept: dict[int, KeptFrame] = {}
        self._sequences: dict[int, int] = {}  # by index; also of dropped frames
        self._repeats: dict[int, int] = {}  # frame index by the sequence of a frame that equals it

    def append(self, image: Image, sequence: int) -> int:
        """Add a frame whose size was checked; returns its index."""
        index = self.num_frames
        self._kept[index] = KeptFrame(image, sequence)
        self._kept.pop(index - KEPT_FRAMES, None)
        self._sequences[index] = sequence
        self._sequences.pop(index - KNOWN_SEQUENCES, None)
        self.num_frames += 1
        self.next_sequence = sequence + 1
        self.on_append()
        return index

    def repeat(self, sequence: int) -> int:
        """Note that a frame equals the last one, and is not kept; returns the index of that one."""
        index = self.num_frames - 1
        self._repeats[sequence] = index
        self._without_index.append(sequence)
        self._repeats.pop(min(self._repeats) if len(self._repeats) > KEPT_FRAMES else -1, None)
        self.next_sequence = sequence + 1
        return index

    def skip(self, sequence: int) -> None:
        """Note that a frame was skipped, to be reported with the next result."""
        self.skipped.append(sequence)
        self._without_index.append(sequence)

    def report_again(self, sequence: int) -> None:
        """Report the frames without an index from ``sequence`` on as skipped: a client that resumes there may
        not have received their results.
        """
        self.skipped = sorted({s for s in (*self.skipped, *self._without_index) if s >= sequence})

    def kept(self) -> dict[int, KeptFrame]:
        """The frames that are held, by index."""
        return dict(self._kept)

    def state(self) -> RingState:
        """The ring without its images."""
        sequences = [(index, frame.sequence) for index, frame in self._kept.items()]
        skipped = sorted({*self.skipped, *self._without_index})
        return RingState(self.num_frames, self.width, self.height, self.next_sequence, skipped, sequences)

    def restore(self, state: RingState, kept: Mapping[int, KeptFrame]) -> None:
        """Replace the state and the frames by those of another ring."""
        self.num_frames, self.width, self.height = state.num_frames, state.width, state.height
        self.next_sequence, self.skipped = state.next_sequence, list(state.skipped)
        self._without_index.extend(state.skipped)
        self._kept = dict(sorted(kept.items()))
        self._sequences |= {index: frame.sequence for index, frame in kept.items()}

    def continue_at(self, frame_index: int, sequence: int) -> None:
        """Continue with ``frame_index`` and the client's ``sequence``, unless the ring is already past
        them.

        The gateway of an earlier stream may have been ahead of the state that this ring was restored from.
        """
        self.num_frames = max(self.num_frames, frame_index)
        self.next_sequence = max(self.next_sequence, sequence)

    def check_size(self, size: tuple[int, int], *, field: str) -> None:
        """Raises InvalidRequest if ``size`` (width, height) is not that of the first frame."""
        if not self.width:
            self.width, self.height = size
        if size != (self.width, self.height):
            raise InvalidRequest(
                f"the frame is {size[0]} x {size[1]}, the others {self.width} x {self.height}", field=field
            )

    def check_index(self, frame_index: int, *, field: str = "frame_index") -> None:
        """Raises InvalidRequest for a frame that does not exist, FrameOutOfMemory for a dropped one."""
        super().check_index(frame_index, field=field)
        self._get(frame_index)

    def sequence(self, frame_index: int) -> int:
        """The client's sequence number of a frame.  Raises FrameOutOfMemory."""
        return self._get(frame_index).sequence

    def index_of(self, sequence: int) -> int:
        """The index of a frame with the client's sequence number, or of the frame that it equals.

        Raises FrameOutOfMemory if it was dropped or skipped.
        """
        if (repeated := self._repeats.get(sequence)) in self._kept:
            return repeated
        for index, frame in self._kept.items():
            if frame.sequence == sequence:
                return index
        raise FrameOutOfMemory(
            f"frame {sequence} is not one of the last {KEPT_FRAMES} that were tracked",
            sequence=sequence,
            oldest_sequence=min((k.sequence for k in self._kept.values()), default=""),
        )

    def kept_from(self, frame_index: int) -> range:
        """The frames from an index on that are still held."""
        return range(max(frame_index, min(self._kept, default=self.num_frames)), self.num_frames)

    def dropped_from(self, frame_index: int) -> list[int]:
        """The client's sequence numbers of the dropped frames from an index on, as far as they are kept."""
        return [
            self._sequences[i] for i in range(frame_index, min(self._kept, default=0)) if i in self._sequences
        ]

    def open_reader(self, *, reverse: bool = False) -> FrameReader:
        return _RingReader(self)

    def read(self, frame_index: int) -> Image:
        """One frame.  Raises FrameOutOfMemory."""
        return self._get(frame_index).image

    def _get(self, frame_index: int) -> KeptFrame:
        if frame_index not in self._kept:
            raise FrameOutOfMemory(
                f"a live stream keeps its last {KEPT_FRAMES} frames",
                frame_index=frame_index,
                oldest_frame_index=min(self._kept, default=""),
            )
        return self._kept[frame_index]


class _RingReader(FrameReader):
    def __init__(self, ring: FrameRing) -> None:
        self._ring = ring

    async def read(self, frame_index: int) -> Image:
        return self._ring.read(frame_index)
