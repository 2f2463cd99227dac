"""The frames of a source, read again for its overlay."""

from pathlib import Path
from typing import Any

import click

from maskmesh.cli.media.overlay import VideoWriter
from maskmesh.masks import ByteArray
from maskmesh.media.pictures import is_picture, natural_order, read_picture
from maskmesh.media.video_index import VideoIndex, index_video
from maskmesh.media.video_reader import VideoReader
from maskmesh.points import FramePoints
from maskmesh.types import FrameMasks


class SourcePath(click.Path):
    """A file or folder that exists."""

    def __init__(self) -> None:
        super().__init__(exists=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a path.  Raises BadParameter if it does not exist, or is a URL."""
        if isinstance(value, str) and "://" in value:
            self.fail(f"{value} is no file: for cameras and URLs use maskmesh stream", param, ctx)
        return super().convert(value, param, ctx)


def folder_frames(folder: Path) -> list[Path]:
    """The images of a folder by the numbers in their names.  Raises UsageError if it has none."""
    found = sorted((p for p in folder.iterdir() if p.is_file() and is_picture(p)), key=natural_order)
    if not found:
        raise click.UsageError(f"{folder} has no images")
    return found


class OverlaySource:
    """The pictures under an overlay, and its writer."""

    def __init__(self, source: Path, output: Path, frames_per_second: float) -> None:
        """``source`` is a video or a folder of images.  Raises InvalidVideo, OSError."""
        self._files = folder_frames(source) if source.is_dir() else []
        self._index: VideoIndex | None = None if self._files else index_video(source)
        index = self._index
        self._reader = None if index is None else VideoReader(source, index)
        self._first: float | None = None
        self.writer = VideoWriter(
            output,
            frames_per_second=frames_per_second,
            **({} if index is None else {"pixel_aspect": index.pixel_aspect}),
        )

    def read(self, frame_index: int) -> ByteArray:
        """A frame as displayed: [H, W, 3], uint8, RGB."""
        if self._reader is None:
            return read_picture(self._files[frame_index])
        return self._reader.read(frame_index).pixels

    def time_of(self, frame_index: int) -> float | None:
        """The time of a frame since the first one of the source, in seconds; None for images."""
        return None if self._index is None else float(self._index.times[frame_index])

    def time(self, result: FrameMasks | FramePoints) -> float | None:
        """The time of a frame since the first one of the overlay."""
        if result.time is None:
            return None
        if self._first is None:
            self._first = result.time
        return result.time - self._first
