"""The videos and images of a folder, and the files of their results."""

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from maskmesh.media.pictures import is_picture

MASKS_SUFFIX = ".masks.json"
OVERLAY_MARK = ".overlay"


@dataclass(frozen=True, slots=True)
class Item:
    """One video or image, and where its results go."""

    source: Path
    name: str
    """Its path in the folder, with slashes."""
    is_video: bool
    masks: Path
    overlay: Path | None

    @property
    def is_done(self) -> bool:
        """Whether it has all results; files of results appear when they are complete."""
        return self.masks.is_file() and (self.overlay is None or self.overlay.is_file())


def find_items(folder: Path, output: Path | None, *, overlays: bool) -> list[Item]:
    """The videos and images in a folder and its subfolders, in order of their names.

    Hidden files, earlier results and what is no video and no image are left out.  Results go beside the
    sources, or with the same paths into ``output``.  Raises OSError.
    """
    items = []
    inner = None  # the folder of results, if it lies inside
    if output is not None and output.resolve() != folder.resolve():
        inner = output.resolve() if output.resolve().is_relative_to(folder.resolve()) else None
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if inner is not None and path.resolve().is_relative_to(inner):
            continue
        if path.name.endswith(MASKS_SUFFIX) or OVERLAY_MARK in path.suffixes[-2:-1]:
            continue
        is_video = not is_picture(path)
        if is_video and not _may_be_video(path):
            continue
        target = path if output is None else output / inside
        overlay = target.with_name(f"{target.name}{OVERLAY_MARK}{'.mp4' if is_video else '.png'}")
        items.append(
            Item(
                path,
                inside.as_posix(),
                is_video,
                target.with_name(target.name + MASKS_SUFFIX),
                overlay if overlays else None,
            )
        )
    return items


def _may_be_video(path: Path) -> bool:
    """Whether a file has a name of a video, or FFmpeg finds pictures in it."""
    kind, _ = mimetypes.guess_type(path.name)
    if (kind or "").startswith("video/"):
        return True
    if (kind or "").startswith("text/"):
        return False
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return bool(container.streams.video)
    except (av.FFmpegError, OSError, ValueError):
        return False


def names(items: Sequence[Item]) -> list[str]:
    """The names of items."""
    return [item.name for item in items]
