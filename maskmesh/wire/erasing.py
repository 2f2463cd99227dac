"""Conversion of options and results of erasing to messages and back."""

from maskmesh.erasing import ErasedFrame, ErasedImage, EraseFill, EraseOptions, ErasePreset, ImageFormat
from maskmesh.media.pictures import NO_LIMIT
from maskmesh.v1 import erase_pb2
from maskmesh.wire.images import image_from_proto
from maskmesh.wire.masks import stage_seconds_from_proto

_PRESETS: dict[ErasePreset, erase_pb2.ErasePreset] = {
    "draft": erase_pb2.ERASE_PRESET_DRAFT,
    "balanced": erase_pb2.ERASE_PRESET_BALANCED,
    "high": erase_pb2.ERASE_PRESET_HIGH,
}
_FILLS: dict[EraseFill, erase_pb2.EraseFill] = {
    "auto": erase_pb2.ERASE_FILL_UNSPECIFIED,
    "neighbours": erase_pb2.ERASE_FILL_NEIGHBOURS,
    "model": erase_pb2.ERASE_FILL_MODEL,
}
_FORMATS: dict[ImageFormat, erase_pb2.ImageFormat] = {
    "jpeg": erase_pb2.IMAGE_FORMAT_JPEG,
    "png": erase_pb2.IMAGE_FORMAT_PNG,
    "raw": erase_pb2.IMAGE_FORMAT_RAW,
}


def erase_options_to_proto(options: EraseOptions) -> erase_pb2.EraseOptions:
    """Convert options to a message.  Raises ValueError."""
    for name, values in (("preset", _PRESETS), ("fill", _FILLS), ("image_format", _FORMATS)):
        if (value := getattr(options, name)) not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, got {value!r}")
    return erase_pb2.EraseOptions(
        obj_ids=sorted(options.obj_ids),
        preset=_PRESETS[options.preset],
        dilation=options.dilation,
        feather=options.feather,
        look_ahead=options.look_ahead,
        fill=_FILLS[options.fill],
        format=_FORMATS[options.image_format],
    )


def erased_image_from_proto(message: erase_pb2.ErasedImage) -> ErasedImage:
    """Convert a message to an image.  Raises InvalidImage."""
    return ErasedImage(
        image_from_proto(message.image, field="image", limit=NO_LIMIT),
        message.propagated_pixels,
        message.invented_pixels,
    )


def erased_frame_from_proto(message: erase_pb2.EraseObjectsResponse) -> ErasedFrame:
    """Convert a message to a frame.  Raises InvalidImage."""
    return ErasedFrame(
        frame_index=message.frame_index,
        erased=erased_image_from_proto(message.erased),
        trace_id=message.trace_id,
        stage_seconds=stage_seconds_from_proto(message.stage_times),
        time=message.time.ToNanoseconds() / 1e9 if message.HasField("time") else None,
        repeats_previous=message.repeats_previous,
        resume_token=message.resume_token,
    )
