"""Masks: the forms in which they are returned and given, and what the pixels of mask files mean."""

from maskmesh.masks.forms import (
    BINARY_FORMS,
    BinaryMask,
    BoolArray,
    ByteArray,
    FloatArray,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    PackedMask,
    PngMask,
    RleMask,
)
from maskmesh.masks.polygons import PolygonMask

__all__ = [
    "BINARY_FORMS",
    "BinaryMask",
    "BoolArray",
    "ByteArray",
    "FloatArray",
    "LowResLogits",
    "MaskFormat",
    "MaskOptions",
    "MaskSpace",
    "PackedMask",
    "PngMask",
    "PolygonMask",
    "RleMask",
]
