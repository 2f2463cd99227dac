import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErasePreset(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERASE_PRESET_UNSPECIFIED: _ClassVar[ErasePreset]
    ERASE_PRESET_DRAFT: _ClassVar[ErasePreset]
    ERASE_PRESET_BALANCED: _ClassVar[ErasePreset]
    ERASE_PRESET_HIGH: _ClassVar[ErasePreset]

class EraseFill(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERASE_FILL_UNSPECIFIED: _ClassVar[EraseFill]
    ERASE_FILL_NEIGHBOURS: _ClassVar[EraseFill]
    ERASE_FILL_MODEL: _ClassVar[EraseFill]

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_RAW: _ClassVar[ImageFormat]
ERASE_PRESET_UNSPECIFIED: ErasePreset
ERASE_PRESET_DRAFT: ErasePreset
ERASE_PRESET_BALANCED: ErasePreset
ERASE_PRESET_HIGH: ErasePreset
ERASE_FILL_UNSPECIFIED: EraseFill
ERASE_FILL_NEIGHBOURS: EraseFill
ERASE_FILL_MODEL: EraseFill
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_RAW: ImageFormat

class EraseOptions(_message.Message):
    __slots__ = ("obj_ids", "preset", "dilation", "feather", "look_ahead", "fill", "format")
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    DILATION_FIELD_NUMBER: _ClassVar[int]
    FEATHER_FIELD_NUMBER: _ClassVar[int]
    LOOK_AHEAD_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    preset: ErasePreset
    dilation: int
    feather: int
    look_ahead: int
    fill: EraseFill
    format: ImageFormat
    def __init__(self, obj_ids: _Optional[_Iterable[int]] = ..., preset: _Optional[_Union[ErasePreset, str]] = ..., dilation: _Optional[int] = ..., feather: _Optional[int] = ..., look_ahead: _Optional[int] = ..., fill: _Optional[_Union[EraseFill, str]] = ..., format: _Optional[_Union[ImageFormat, str]] = ...) -> None: ...

class ErasedImage(_message.Message):
    __slots__ = ("image", "propagated_pixels", "invented_pixels")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROPAGATED_PIXELS_FIELD_NUMBER: _ClassVar[int]
    INVENTED_PIXELS_FIELD_NUMBER: _ClassVar[int]
    image: _types_pb2.Image
    propagated_pixels: int
    invented_pixels: int
    def __init__(self, image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., propagated_pixels: _Optional[int] = ..., invented_pixels: _Optional[int] = ...) -> None: ...

class EraseObjectsRequest(_message.Message):
    __slots__ = ("session_id", "options", "start_frame_index", "max_frames", "resume_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    options: EraseOptions
    start_frame_index: int
    max_frames: int
    resume_token: str
    def __init__(self, session_id: _Optional[str] = ..., options: _Optional[_Union[EraseOptions, _Mapping]] = ..., start_frame_index: _Optional[int] = ..., max_frames: _Optional[int] = ..., resume_token: _Optional[str] = ...) -> None: ...

class EraseObjectsResponse(_message.Message):
    __slots__ = ("frame_index", "erased", "resume_token", "trace_id", "stage_times", "time", "repeats_previous")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    REPEATS_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    erased: ErasedImage
    resume_token: str
    trace_id: str
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    time: _duration_pb2.Duration
    repeats_previous: bool
    def __init__(self, frame_index: _Optional[int] = ..., erased: _Optional[_Union[ErasedImage, _Mapping]] = ..., resume_token: _Optional[str] = ..., trace_id: _Optional[str] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., repeats_previous: _Optional[bool] = ...) -> None: ...
