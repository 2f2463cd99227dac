"""Masks as people have them: one rule that turns the values of arrays and pictures into objects.

A mask with one value beside 0 is the object where it is not 0: bool, 0 and 1, 0 and 255, one id.  Three or
more grey values that reach white (255 of 8 bits, 65535 of 16) are one object with soft edges, cut in the
middle.  Any other values are ids of several objects, which a mask of one object must not have.
"""

import io
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from maskmesh.masks.png import without_metadata

LabelArray: TypeAlias = NDArray[np.int64]
"""The id of the object at each pixel, 0 for none: [height, width]."""

# More values than this are ids only if they fill areas; those up to near white are the soft edges of a
# compressed picture.
_MAX_IDS = 64

# The share of the ids of a mask with many ids that have a square of 2 x 2 pixels somewhere: the values of
# soft edges and of photographs have none.
_WITH_AREA = 0.8
_SHOWN_VALUES = 6


def binary_mask(mask: Any) -> NDArray[np.bool_]:
    """The mask of one object: [height, width], bool.

    mask: a Pillow image, or an array (or what NumPy converts to one) [height, width] of bool, integers, or
    floating 0 and 1; a third dimension of 1 is dropped.  Raises ValueError for other shapes and values.
    """
    mask = as_mask(mask)
    if isinstance(mask, PillowImage.Image):
        values = image_values(mask)
    else:
        values = np.asarray(mask)
        if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
            values = values.squeeze(0 if values.shape[0] == 1 else 2)
        if values.ndim != 2:
            raise ValueError(f"a mask is [height, width], got {list(values.shape)}")
    if values.dtype == np.bool_:
        return values.astype(np.bool_)
    if values.dtype.kind not in "uif":
        raise ValueError(f"a mask has numbers, not values of type {values.dtype}")
    if values.dtype.kind == "f":
        if not is_binary(values):
            raise ValueError("a mask of floating numbers has only 0 and 1; of logits pass logits > 0")
        return values.astype(np.bool_)
    labels = object_labels(values)
    ids = np.unique(labels[labels != 0])
    if len(ids) > 1:
        raise ValueError(f"the mask has several objects, {_listed(ids)}: pass mask == {ids[0]}, or another")
    return np.not_equal(labels, 0)


def as_mask(mask: Any) -> Any:
    """A mask as a Pillow image or as what NumPy converts: PNG files are opened, tensors detached.

    Raises ValueError for bytes that are no PNG file.
    """
    if isinstance(mask, bytes):
        return decode_mask_file(mask, ("PNG",))
    if hasattr(mask, "detach"):
        tensor = mask.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return mask


def is_binary(values: NDArray[Any]) -> bool:
    """Whether floating values are only 0 and one of the values for white, and so no logits."""
    white = values.max() if values.size else 1
    return bool(white in (0.0, 1.0, 255.0, 65535.0) and np.isin(values, (0.0, white)).all())


def object_labels(values: NDArray[Any]) -> LabelArray:
    """The ids of the objects in integer values: [height, width], 0 for no object.

    Raises ValueError if they are neither ids nor grey values up to white.
    """
    if values.dtype.kind == "f" and not is_binary(values):
        raise ValueError("floating values are no ids of objects")
    found = np.unique(values)
    objects = found[found != 0]
    brightest = int(objects[-1]) if len(objects) else 0
    white = 0xFF if brightest <= 0xFF else 0xFFFF
    if len(objects) <= 1:
        return (values == white if brightest == white else values).astype(np.int64)
    is_grey = brightest == white if len(objects) <= _MAX_IDS else brightest > white // 2
    if is_grey and len(objects) > 2:
        return (values > white // 2).astype(np.int64)
    if objects[0] < 0 or (len(objects) > _MAX_IDS and not _fill_areas(values, objects)):
        raise ValueError(f"the mask has {len(found)} values, {_listed(found)}: these are no ids of objects")
    return values.astype(np.int64)


def _fill_areas(values: NDArray[Any], objects: NDArray[Any]) -> bool:
    """Whether most values have a square of 2 x 2 pixels."""
    corner = values[:-1, :-1]
    same = (corner == values[1:, :-1]) & (corner == values[:-1, 1:]) & (corner == values[1:, 1:])
    return bool(np.isin(objects, corner[same]).mean() >= _WITH_AREA)


def image_values(image: PillowImage.Image) -> NDArray[Any]:
    """The values of a mask that is a picture: [height, width], bool or integers (floating for mode F).

    A palette gives its indices, as in DAVIS, unless it is black and white.  Other colours are numbered in
    the order of their values, with 0 for black.  Alpha is dropped, unless only alpha shows the object.
    Raises ValueError for more than 64 colours.
    """
    if "A" in image.getbands() and _is_shape_in_alpha(image):
        return np.asarray(image.getchannel("A"))
    if image.mode in ("P", "PA"):
        indices = np.asarray(image if image.mode == "P" else image.getchannel(0))
        return _white_pixels(image, indices) if _is_black_and_white(image, indices) else indices
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;"):
        return np.asarray(image)
    if image.mode == "LA":
        return np.asarray(image.getchannel(0))
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0].astype(np.uint8)
    colours = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    values, numbers = np.unique(colours, return_inverse=True)
    if len(values) > _MAX_IDS:
        raise ValueError(f"the mask has {len(values)} colours: an object has one")
    numbers = numbers.reshape(colours.shape)
    return np.asarray(numbers + int(values[0] != 0))


def _is_shape_in_alpha(image: PillowImage.Image) -> bool:
    """Whether an object is transparent or opaque in a picture of one colour."""
    colours = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    is_constant: list[bool] = (colours == colours[:1]).all(axis=0).tolist()
    return is_constant == [True, True, True, False]


def _is_black_and_white(image: PillowImage.Image, indices: NDArray[Any]) -> bool:
    """Whether a palette has only black and white, in whatever order programs write it."""
    used = _palette(image)[np.unique(indices)].tolist()
    return sorted(used) == [[0, 0, 0], [255, 255, 255]]


def _white_pixels(image: PillowImage.Image, indices: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(_palette(image)[indices][..., 0], np.uint8)


def _palette(image: PillowImage.Image) -> NDArray[Any]:
    """The colours of a palette: [256, 3]."""
    colours = np.zeros((256, 3), np.int64)
    found = np.asarray(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)[:256]
    colours[: len(found)] = found
    return colours


def decode_mask_file(data: bytes, formats: tuple[str, ...] | None = None) -> PillowImage.Image:
    """The picture of a mask's file, of one of Pillow's ``formats`` or any.  Raises ValueError."""
    try:
        is_png = data.startswith(b"\x89PNG")
        image = PillowImage.open(io.BytesIO(without_metadata(data) if is_png else data), formats=formats)
        image.load()
        return image
    except Exception as error:  # Pillow raises many kinds for corrupt files
        raise ValueError(f"the mask cannot be decoded: {error}") from error


def _listed(values: NDArray[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_SHOWN_VALUES].tolist())
    return shown if len(values) <= _SHOWN_VALUES else f"{shown}, ..."
