import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ObjectPrompt(_message.Message):
    __slots__ = ("obj_id", "prompt")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    prompt: _types_pb2.Prompt
    def __init__(self, obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ...) -> None: ...

class SegmentImageRequest(_message.Message):
    __slots__ = ("image", "prompts", "multimask_output", "mask_format")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MULTIMASK_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    image: _types_pb2.Image
    prompts: _containers.RepeatedCompositeFieldContainer[ObjectPrompt]
    multimask_output: bool
    mask_format: _types_pb2.MaskFormat
    def __init__(self, image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., prompts: _Optional[_Iterable[_Union[ObjectPrompt, _Mapping]]] = ..., multimask_output: _Optional[bool] = ..., mask_format: _Optional[_Union[_types_pb2.MaskFormat, str]] = ...) -> None: ...

class SegmentImageResponse(_message.Message):
    __slots__ = ("width", "height", "masks", "trace_id")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    masks: _containers.RepeatedCompositeFieldContainer[_types_pb2.ObjectMask]
    trace_id: str
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., masks: _Optional[_Iterable[_Union[_types_pb2.ObjectMask, _Mapping]]] = ..., trace_id: _Optional[str] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("ttl",)
    TTL_FIELD_NUMBER: _ClassVar[int]
    ttl: _duration_pb2.Duration
    def __init__(self, ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("session_id", "ttl", "model")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ttl: _duration_pb2.Duration
    model: _types_pb2.ModelInfo
    def __init__(self, session_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class AppendFramesConfig(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class AppendFramesFinish(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AppendFramesRequest(_message.Message):
    __slots__ = ("config", "frame", "video_chunk", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    VIDEO_CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: AppendFramesConfig
    frame: _types_pb2.Image
    video_chunk: bytes
    finish: AppendFramesFinish
    def __init__(self, config: _Optional[_Union[AppendFramesConfig, _Mapping]] = ..., frame: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., video_chunk: _Optional[bytes] = ..., finish: _Optional[_Union[AppendFramesFinish, _Mapping]] = ...) -> None: ...

class AppendFramesResponse(_message.Message):
    __slots__ = ("first_frame_index", "num_frames", "width", "height", "frames_per_second")
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    first_frame_index: int
    num_frames: int
    width: int
    height: int
    frames_per_second: float
    def __init__(self, first_frame_index: _Optional[int] = ..., num_frames: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., frames_per_second: _Optional[float] = ...) -> None: ...

class AddPromptRequest(_message.Message):
    __slots__ = ("session_id", "frame_index", "obj_id", "prompt", "clear_previous", "mask_format")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frame_index: int
    obj_id: int
    prompt: _types_pb2.Prompt
    clear_previous: bool
    mask_format: _types_pb2.MaskFormat
    def __init__(self, session_id: _Optional[str] = ..., frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., clear_previous: _Optional[bool] = ..., mask_format: _Optional[_Union[_types_pb2.MaskFormat, str]] = ...) -> None: ...

class AddPromptResponse(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ...) -> None: ...

class PropagateVideoRequest(_message.Message):
    __slots__ = ("session_id", "start_frame_index", "max_frames", "mask_format")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    start_frame_index: int
    max_frames: int
    mask_format: _types_pb2.MaskFormat
    def __init__(self, session_id: _Optional[str] = ..., start_frame_index: _Optional[int] = ..., max_frames: _Optional[int] = ..., mask_format: _Optional[_Union[_types_pb2.MaskFormat, str]] = ...) -> None: ...

class PropagateVideoResponse(_message.Message):
    __slots__ = ("frame",)
    FRAME_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ...) -> None: ...

class RemoveObjectRequest(_message.Message):
    __slots__ = ("session_id", "obj_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    obj_id: int
    def __init__(self, session_id: _Optional[str] = ..., obj_id: _Optional[int] = ...) -> None: ...

class RemoveObjectResponse(_message.Message):
    __slots__ = ("obj_ids",)
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, obj_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ResetSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
