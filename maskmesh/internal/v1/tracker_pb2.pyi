import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.internal.v1 import embedding_pb2 as _embedding_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImagePrompt(_message.Message):
    __slots__ = ("obj_id", "prompt")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    prompt: _types_pb2.Prompt
    def __init__(self, obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ...) -> None: ...

class SegmentImageRequest(_message.Message):
    __slots__ = ("embedding", "prompts", "multimask_output", "mask_format")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MULTIMASK_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    embedding: _embedding_pb2.EmbeddingRef
    prompts: _containers.RepeatedCompositeFieldContainer[ImagePrompt]
    multimask_output: bool
    mask_format: _types_pb2.MaskFormat
    def __init__(self, embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., prompts: _Optional[_Iterable[_Union[ImagePrompt, _Mapping]]] = ..., multimask_output: _Optional[bool] = ..., mask_format: _Optional[_Union[_types_pb2.MaskFormat, str]] = ...) -> None: ...

class SegmentImageResponse(_message.Message):
    __slots__ = ("masks",)
    MASKS_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[_types_pb2.ObjectMask]
    def __init__(self, masks: _Optional[_Iterable[_Union[_types_pb2.ObjectMask, _Mapping]]] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("session_id", "ttl")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ttl: _duration_pb2.Duration
    def __init__(self, session_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("ttl", "model")
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ttl: _duration_pb2.Duration
    model: _types_pb2.ModelInfo
    def __init__(self, ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class AddPromptRequest(_message.Message):
    __slots__ = ("session_id", "frame_index", "obj_id", "prompt", "clear_previous", "mask_format", "embedding")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frame_index: int
    obj_id: int
    prompt: _types_pb2.Prompt
    clear_previous: bool
    mask_format: _types_pb2.MaskFormat
    embedding: _embedding_pb2.EmbeddingRef
    def __init__(self, session_id: _Optional[str] = ..., frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., clear_previous: _Optional[bool] = ..., mask_format: _Optional[_Union[_types_pb2.MaskFormat, str]] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ...) -> None: ...

class AddPromptResponse(_message.Message):
    __slots__ = ("mask",)
    MASK_FIELD_NUMBER: _ClassVar[int]
    mask: _types_pb2.ObjectMask
    def __init__(self, mask: _Optional[_Union[_types_pb2.ObjectMask, _Mapping]] = ...) -> None: ...

class TrackConfig(_message.Message):
    __slots__ = ("session_id", "mask_format")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MASK_FORMAT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    mask_format: _types_pb2.MaskFormat
    def __init__(self, session_id: _Optional[str] = ..., mask_format: _Optional[_Union[_types_pb2.MaskFormat, str]] = ...) -> None: ...

class TrackFrame(_message.Message):
    __slots__ = ("frame_index", "embedding", "traceparent")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    embedding: _embedding_pb2.EmbeddingRef
    traceparent: str
    def __init__(self, frame_index: _Optional[int] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class FrameEmbedding(_message.Message):
    __slots__ = ("frame_index", "embedding")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    embedding: _embedding_pb2.EmbeddingRef
    def __init__(self, frame_index: _Optional[int] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ...) -> None: ...

class TrackRequest(_message.Message):
    __slots__ = ("config", "frame", "embedding")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    config: TrackConfig
    frame: TrackFrame
    embedding: FrameEmbedding
    def __init__(self, config: _Optional[_Union[TrackConfig, _Mapping]] = ..., frame: _Optional[_Union[TrackFrame, _Mapping]] = ..., embedding: _Optional[_Union[FrameEmbedding, _Mapping]] = ...) -> None: ...

class TrackStarted(_message.Message):
    __slots__ = ("first_prompted_frame_index",)
    FIRST_PROMPTED_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    first_prompted_frame_index: int
    def __init__(self, first_prompted_frame_index: _Optional[int] = ...) -> None: ...

class TrackResult(_message.Message):
    __slots__ = ("frame", "handling")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    handling: _embedding_pb2.Handling
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., handling: _Optional[_Union[_embedding_pb2.Handling, _Mapping]] = ...) -> None: ...

class EmbeddingNeeded(_message.Message):
    __slots__ = ("frame_index",)
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    def __init__(self, frame_index: _Optional[int] = ...) -> None: ...

class TrackResponse(_message.Message):
    __slots__ = ("started", "result", "embedding_needed")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_NEEDED_FIELD_NUMBER: _ClassVar[int]
    started: TrackStarted
    result: TrackResult
    embedding_needed: EmbeddingNeeded
    def __init__(self, started: _Optional[_Union[TrackStarted, _Mapping]] = ..., result: _Optional[_Union[TrackResult, _Mapping]] = ..., embedding_needed: _Optional[_Union[EmbeddingNeeded, _Mapping]] = ...) -> None: ...

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

class RenewSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class RenewSessionResponse(_message.Message):
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

class GetTrackerModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTrackerModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelInfo
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...
