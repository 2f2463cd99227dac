"""Output files: checked before the work begins, and valid whenever the work ends."""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import click

from maskmesh.cli.media.overlay import PICTURE_SUFFIXES, VIDEO_CODECS, check_still_there
from maskmesh.masks import RleMask
from maskmesh.types import FrameMasks, ObjectMask


def check_outputs(inputs: Iterable[Path], outputs: Mapping[str, Path | None]) -> None:
    """Check files before they are written; ``outputs`` are by the option that names them.

    Raises UsageError if a file cannot be written, is also read, or is named by two options.
    """
    written: dict[str, Path] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        if str(path) == "-":
            raise click.UsageError(f"{option} - is no file: for standard output use /dev/stdout")
        _check_writable(option, path)
        for source in inputs:
            if _is_same(path, source):
                raise click.UsageError(f"{option} {path} would overwrite the input {source}")
        for other, earlier in written.items():
            if _is_same(path, earlier):
                raise click.UsageError(f"{other} and {option} name the same file: {path}")
        written[option] = path


def check_suffix(option: str, path: Path | None, *, is_video: bool) -> None:
    """Raises UsageError if an overlay cannot have the format of the file's suffix."""
    allowed = tuple(VIDEO_CODECS) if is_video else PICTURE_SUFFIXES
    if path is not None and path.suffix.lower() not in allowed:
        kind = "a video" if is_video else "a picture"
        raise click.UsageError(f"{option} {path}: {kind} has one of the suffixes {', '.join(allowed)}")


def _check_writable(option: str, path: Path) -> None:
    folder = path.parent
    if path.is_dir():
        raise click.UsageError(f"{option} {path} is a folder")
    if not folder.is_dir():
        raise click.UsageError(f"{option} {path}: there is no folder {folder}")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise click.UsageError(f"{option} {path} cannot be written: permission denied")
        return
    try:
        # The only check that is right on every file system.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.UsageError(f"{option} {path} cannot be written: {error.strerror}") from error


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths name the same file, by whatever links, also before it exists."""
    try:
        return path.samefile(other)
    except OSError:
        return path.resolve() == other.resolve()


class MasksFile:
    """Masks of frames as JSON, valid after every frame.  A context manager.

    The file is created at the first frame.  The text that closes it is overwritten by the next frame, in one
    write.
    """

    _END = b"\n]}\n"

    def __init__(self, path: Path | None, header: Mapping[str, Any]) -> None:
        """``path`` None means that nothing is written."""
        self._path = path
        self._header = dict(header)
        self._file: IO[bytes] | None = None
        self._end = 0

    def __enter__(self) -> "MasksFile":
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raises OSError if somebody else has removed the file."""
        if self._file is None or self._path is None:
            return
        with self._file:
            if not self._file.seekable():
                self._write(self._END)
            elif error is None:
                check_still_there(self._path, self._file.fileno())

    def write(self, frame: Mapping[str, Any]) -> None:
        """Add a frame.  Raises OSError."""
        if self._path is None:
            return
        if self._file is None:
            self._file = self._path.open("wb", buffering=0)
            start = json.dumps(self._header)[:-1] + ', "frames": [\n'
        else:
            start = ",\n"
        text = (start + json.dumps(frame)).encode()
        try:
            if not self._file.seekable():  # a pipe, which is closed at the end
                self._write(text)
                return
            self._file.seek(self._end)
            self._write(text + self._END)
        except OSError as error:
            self._restore()
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._end += len(text)

    def _restore(self) -> None:
        """After an error, as on a full disk: keep the frames before, or no file if there are none."""
        assert self._file is not None, "the file is open"
        assert self._path is not None, "there is a file"
        if not self._path.is_file():
            return  # a pipe or a device, which is not ours to delete
        if not self._end:
            self._path.unlink(missing_ok=True)
            return
        self._file.seek(self._end)
        self._write(self._END)
        self._file.truncate()

    def _write(self, data: bytes) -> None:
        assert self._file is not None, "the file is open"
        while data:
            data = data[self._file.write(data) :]


def frame_json(frame: FrameMasks) -> dict[str, Any]:
    """One frame in the JSON form of ``--masks``."""
    content: dict[str, Any] = {"frame_index": frame.frame_index, "trace_id": frame.trace_id}
    if frame.time is not None:
        content["time"] = round(frame.time, 6)
    if frame.repeats_previous:
        content["repeats_previous"] = True
    for name, obj_ids in (
        ("new", frame.new_obj_ids),
        ("gone", frame.gone_obj_ids),
        ("held_back", frame.held_back_obj_ids),
    ):
        if obj_ids:
            content[name] = list(obj_ids)
    return content | {"objects": [object_json(o) for o in frame.objects.values()]}


def object_json(mask: ObjectMask) -> dict[str, Any]:
    """The mask of one object in the JSON form of ``--masks``."""
    assert isinstance(mask.mask, RleMask), "the command requests COCO RLE"
    content: dict[str, Any] = {
        "obj_id": mask.obj_id,
        "segmentation": mask.mask.to_coco(),
        "predicted_iou": round(mask.predicted_iou, 4),
        "object_score_logit": round(mask.object_score_logit, 4),
    }
    if mask.concept_id is not None:
        content |= {"concept_id": mask.concept_id, "concept_score": round(mask.concept_score, 4)}
    return content


def rle_masks(objects: Mapping[int, ObjectMask]) -> dict[int, RleMask]:
    """The masks of objects, by ``obj_id``."""
    return {i: o.mask for i, o in objects.items() if isinstance(o.mask, RleMask)}
