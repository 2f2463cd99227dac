"""Options of erasing, checked."""

from collections.abc import Collection
from dataclasses import dataclass

from gateway.erase.eraser import EraserOptions
from maskmesh.errors import InvalidRequest
from maskmesh.v1 import erase_pb2

MAX_DILATION = 128
MAX_FEATHER = 64
MAX_LOOK_AHEAD = 30

# What is dilated unless the client chooses: a share of the frame's shorter side.
DILATION_SHARE = 0.015
MIN_DILATION = 3

DEFAULT_FEATHER = 2

_PRESETS = {
    erase_pb2.ERASE_PRESET_DRAFT: EraserOptions(flow_side=320, fast_flow=True),
    erase_pb2.ERASE_PRESET_BALANCED: EraserOptions(flow_side=512),
    erase_pb2.ERASE_PRESET_HIGH: EraserOptions(flow_side=640, look_ahead=10),
}


@dataclass(frozen=True, slots=True)
class EraseOptions:
    """What is erased, and how; ``dilation`` is in pixels, None for that of the frame's size."""

    obj_ids: Collection[int]
    eraser: EraserOptions
    dilation: int | None
    fill: erase_pb2.EraseFill
    format: erase_pb2.ImageFormat

    def dilation_for(self, height: int, width: int) -> int:
        """The width by which masks of frames of this size are grown, in pixels."""
        if self.dilation is not None:
            return self.dilation
        return max(round(min(height, width) * DILATION_SHARE), MIN_DILATION)


def erase_options(message: erase_pb2.EraseOptions, *, field: str, live: bool) -> EraseOptions:
    """The options of a request.  Raises InvalidRequest."""
    for name, kind in (
        ("preset", erase_pb2.ErasePreset),
        ("fill", erase_pb2.EraseFill),
        ("format", erase_pb2.ImageFormat),
    ):
        if (value := getattr(message, name)) not in kind.values():
            raise InvalidRequest(f"unknown value {value}", field=f"{field}.{name}")
    preset = _PRESETS[message.preset or erase_pb2.ERASE_PRESET_BALANCED]
    look_ahead = _bounded(message, "look_ahead", MAX_LOOK_AHEAD, field)
    if live and look_ahead:
        raise InvalidRequest(
            "a live stream returns each frame at once, so it must be 0", field=f"{field}.look_ahead"
        )
    if look_ahead is None:
        look_ahead = 0 if live else preset.look_ahead
    feather = _bounded(message, "feather", MAX_FEATHER, field)
    return EraseOptions(
        obj_ids=frozenset(message.obj_ids),
        eraser=EraserOptions(
            flow_side=preset.flow_side,
            fast_flow=preset.fast_flow,
            look_ahead=look_ahead,
            feather=DEFAULT_FEATHER if feather is None else feather,
        ),
        dilation=_bounded(message, "dilation", MAX_DILATION, field),
        fill=message.fill,
        format=message.format or erase_pb2.IMAGE_FORMAT_JPEG,
    )


def _bounded(message: erase_pb2.EraseOptions, name: str, limit: int, field: str) -> int | None:
    if not message.HasField(name):
        return None
    value: int = getattr(message, name)
    if value > limit:
        raise InvalidRequest(f"it must be 0 to {limit}", field=f"{field}.{name}")
    return value
