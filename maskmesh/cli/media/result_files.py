"""The files that the results of one video are written to, as they come."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from maskmesh.cli.media.outputs import MasksFile, frame_json, rle_masks
from maskmesh.cli.media.overlay import OverlayThread, concept_labels
from maskmesh.cli.media.source_frames import OverlaySource
from maskmesh.types import FrameMasks


class ResultFiles:
    """The masks and the overlay of one video.  An asynchronous context manager.

    Whatever ends the context, every frame that was written is in the files.
    """

    def __init__(
        self,
        masks: Path | None,
        header: Mapping[str, Any],
        source: OverlaySource | None,
        titles: Mapping[int, str],
    ) -> None:
        """``source`` is None without an overlay; ``titles`` are those of the concepts, by ``concept_id``."""
        self._masks = MasksFile(masks, header)
        self._source = source
        self._titles = titles
        self._stack = AsyncExitStack()
        self._drawing: OverlayThread | None = None

    async def __aenter__(self) -> "ResultFiles":
        self._stack.enter_context(self._masks)
        if self._source is not None:
            self._drawing = await self._stack.enter_async_context(OverlayThread(self._source.writer))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raises OSError if a file cannot be completed."""
        await self._stack.__aexit__(kind, error, traceback)

    async def write(self, result: FrameMasks) -> None:
        """Write the masks of a frame, and have it drawn.  Raises OSError."""
        self._masks.write(frame_json(result))
        if self._drawing is not None and self._source is not None:
            await self._drawing.submit(
                partial(self._source.read, result.frame_index),
                rle_masks(result.objects),
                self._source.time(result),
                concept_labels(result.objects, self._titles),
            )
