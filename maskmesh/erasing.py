"""Frames without chosen objects."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from maskmesh.masks import ByteArray
from maskmesh.media.pictures import NO_LIMIT, decode_picture
from maskmesh.types import EncodedImage, Image

ErasePreset: TypeAlias = Literal["draft", "balanced", "high"]
EraseFill: TypeAlias = Literal["auto", "neighbours", "model"]
ImageFormat: TypeAlias = Literal["jpeg", "png", "raw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseOptions:
    """What is erased, and how."""

    obj_ids: Collection[int] = ()
    """The objects that are erased; none means all.  They must be objects of the first frame."""
    preset: ErasePreset = "balanced"
    """Trades speed for quality."""
    dilation: int | None = None
    """Width by which masks are grown, in pixels of the frame; None means 1.5 % of its shorter side, at least
    3."""
    feather: int | None = None
    """Width of the transition at the edge of the erased part, within it, in pixels; None means 2."""
    look_ahead: int | None = None
    """Number of later frames that are read for content; each frame is returned so many frames later.  None
    means 10 for the preset "high", else 0."""
    fill: EraseFill = "auto"
    """What fills pixels that no frame has shown: their neighbours, or the gateway's inpainting model; "auto"
    is the model if there is one."""
    image_format: ImageFormat = "jpeg"


@dataclass(frozen=True, slots=True)
class ErasedImage:
    """A frame without the objects, and where the content of the erased pixels comes from."""

    image: Image
    propagated_pixels: int
    """Number of erased pixels whose content another frame shows."""
    invented_pixels: int
    """Number of erased pixels whose content no frame has shown."""

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was erased."""
        return not self.propagated_pixels and not self.invented_pixels

    def decode(self) -> ByteArray:
        """The pixels: [height, width, 3], uint8, RGB.  Raises InvalidImage."""
        if isinstance(self.image, EncodedImage):
            return decode_picture(self.image.data, NO_LIMIT, field="image")
        return self.image.pixels


@dataclass(frozen=True, slots=True)
class ErasedFrame:
    """One frame of a session without the objects."""

    frame_index: int
    erased: ErasedImage
    trace_id: str = ""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    time: float | None = None
    """Time of the frame since the first one, in seconds; None for images."""
    repeats_previous: bool = False
    resume_token: str = ""
