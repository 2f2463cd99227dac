"""Images and clips with true masks, read from folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskmesh.masks import BoolArray
from maskmesh.masks.values import LabelArray, decode_mask_file, image_values, object_labels
from maskmesh.media.pictures import NO_LIMIT, ImageLike, is_picture, natural_order, picture_size

# Names of the folders of a set that has its images and masks in one folder.
_IMAGES = ("images", "frames")
_MASKS = ("masks",)


@dataclass(frozen=True, slots=True)
class TrueFrame:
    """One image, and the ``obj_id`` of each of its pixels, 0 for no object: [H, W]."""

    name: str
    image: ImageLike
    labels: NDArray[Any]

    def objects(self) -> list[int]:
        """The ids of the objects that the frame shows."""
        return [int(obj_id) for obj_id in np.unique(self.labels) if obj_id]

    def mask(self, obj_id: int) -> BoolArray:
        """The mask of one object: [H, W], bool."""
        mask: BoolArray = self.labels == obj_id
        return mask


def read_folder(images: Path, masks: Path) -> list[TrueFrame]:
    """Read images and masks with the same names, in order of the numbers in them.

    Masks are read by the rule of :mod:`maskmesh.masks.values`: the pixels of a palette are ids of objects, as
    in DAVIS, and so are others unless they are black and white.  Images without a mask are left out.
    Raises ValueError if no image has a mask, if sizes differ, or if two masks have the same name.
    """
    found: dict[str, Path] = {}
    for path in _pictures(masks):
        if found.setdefault(path.stem, path) != path:
            raise ValueError(f"{found[path.stem].name} and {path.name} have the same name")
    frames = []
    for path in _pictures(images):
        if path.stem not in found:
            continue
        labels = read_labels(found[path.stem])
        if labels.shape != _displayed_shape(path):
            raise ValueError(f"{found[path.stem].name} and {path.name} differ in size")
        # A folder may have thousands of masks, so each has the smallest type that holds its ids.
        smallest = labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
        frames.append(TrueFrame(path.stem, path, smallest))
    if not frames:
        raise ValueError(f"no image in {images} has a mask of its name in {masks}")
    return frames


def read_labels(path: Path) -> LabelArray:
    """The ids of the objects in a mask file, 0 for no object: [H, W]; see :func:`read_folder`.

    Raises ValueError if its values are neither ids nor black and white.
    """
    try:
        image = decode_mask_file(path.read_bytes())
        values = image_values(image)
        return values.astype(np.int64) if image.mode == "P" else object_labels(values)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _displayed_shape(path: Path) -> tuple[int, int]:
    width, height = picture_size(path.read_bytes(), NO_LIMIT, field=path.name)
    return height, width


class FrameSet(NamedTuple):
    """A named folder of images, or of the frames of one clip, and the folder of their masks."""

    name: str
    images: Path
    masks: Path

    def read(self) -> list[TrueFrame]:
        """The images with masks, see :func:`read_folder`."""
        return read_folder(self.images, self.masks)


def find_sets(images: Path, masks: Path) -> list[FrameSet]:
    """The sets in two folders: the two themselves if they have pictures, otherwise the folders in them.

    Folders with the same name in both are a set, as in DAVIS; a folder ``NAME`` in ``images`` and ``masks``
    may have its pictures in ``NAME/images`` or ``NAME/frames``, and its masks in ``NAME/masks``.  Raises
    ValueError if there is no set, or one of images without masks.
    """
    if _pictures(images):
        return [FrameSet(images.resolve().name, images, masks)]
    found = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        one = FrameSet(folder.name, _inner(folder, _IMAGES), _inner(masks / folder.name, _MASKS))
        if not _pictures(one.images):
            continue
        if not one.masks.is_dir():
            raise ValueError(f"{folder.name}: there is no folder {one.masks}")
        found.append(one)
    if not found:
        raise ValueError(f"{images} has no pictures, and no folders of pictures")
    return found


def _pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, in order of the numbers in their names."""
    return sorted((p for p in folder.iterdir() if p.is_file() and is_picture(p)), key=natural_order)


def _inner(folder: Path, names: Sequence[str]) -> Path:
    return next((folder / name for name in names if (folder / name).is_dir()), folder)
