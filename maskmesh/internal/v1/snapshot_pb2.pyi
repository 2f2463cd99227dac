import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.internal.v1 import embedding_pb2 as _embedding_pb2
from maskmesh.v1 import session_pb2 as _session_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StateKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_KIND_UNSPECIFIED: _ClassVar[StateKind]
    STATE_KIND_PROMPTED: _ClassVar[StateKind]
    STATE_KIND_CONDITIONING: _ClassVar[StateKind]
    STATE_KIND_TRACKED: _ClassVar[StateKind]
STATE_KIND_UNSPECIFIED: StateKind
STATE_KIND_PROMPTED: StateKind
STATE_KIND_CONDITIONING: StateKind
STATE_KIND_TRACKED: StateKind

class TensorValue(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: _embedding_pb2.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[_embedding_pb2.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class FrameState(_message.Message):
    __slots__ = ("obj_id", "frame_index", "kind", "predicted_iou", "object_score_logit", "low_res_masks", "object_pointer", "memory_features", "concept_score")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_IOU_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SCORE_LOGIT_FIELD_NUMBER: _ClassVar[int]
    LOW_RES_MASKS_FIELD_NUMBER: _ClassVar[int]
    OBJECT_POINTER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_SCORE_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    frame_index: int
    kind: StateKind
    predicted_iou: float
    object_score_logit: float
    low_res_masks: TensorValue
    object_pointer: TensorValue
    memory_features: TensorValue
    concept_score: float
    def __init__(self, obj_id: _Optional[int] = ..., frame_index: _Optional[int] = ..., kind: _Optional[_Union[StateKind, str]] = ..., predicted_iou: _Optional[float] = ..., object_score_logit: _Optional[float] = ..., low_res_masks: _Optional[_Union[TensorValue, _Mapping]] = ..., object_pointer: _Optional[_Union[TensorValue, _Mapping]] = ..., memory_features: _Optional[_Union[TensorValue, _Mapping]] = ..., concept_score: _Optional[float] = ...) -> None: ...

class PromptedFrame(_message.Message):
    __slots__ = ("frame_index", "prompt")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    prompt: _types_pb2.Prompt
    def __init__(self, frame_index: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ...) -> None: ...

class ObjectSnapshot(_message.Message):
    __slots__ = ("obj_id", "prompts", "visited", "prompted_frames", "conditioning_frames", "recent_frames", "concept_id", "dismissed", "concept_score", "found_frame", "detected_frames")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    VISITED_FIELD_NUMBER: _ClassVar[int]
    PROMPTED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FRAMES_FIELD_NUMBER: _ClassVar[int]
    RECENT_FRAMES_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    DISMISSED_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_SCORE_FIELD_NUMBER: _ClassVar[int]
    FOUND_FRAME_FIELD_NUMBER: _ClassVar[int]
    DETECTED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    prompts: _containers.RepeatedCompositeFieldContainer[PromptedFrame]
    visited: _containers.RepeatedCompositeFieldContainer[_session_pb2.FrameRange]
    prompted_frames: _containers.RepeatedScalarFieldContainer[int]
    conditioning_frames: _containers.RepeatedScalarFieldContainer[int]
    recent_frames: _containers.RepeatedScalarFieldContainer[int]
    concept_id: int
    dismissed: bool
    concept_score: float
    found_frame: int
    detected_frames: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, obj_id: _Optional[int] = ..., prompts: _Optional[_Iterable[_Union[PromptedFrame, _Mapping]]] = ..., visited: _Optional[_Iterable[_Union[_session_pb2.FrameRange, _Mapping]]] = ..., prompted_frames: _Optional[_Iterable[int]] = ..., conditioning_frames: _Optional[_Iterable[int]] = ..., recent_frames: _Optional[_Iterable[int]] = ..., concept_id: _Optional[int] = ..., dismissed: _Optional[bool] = ..., concept_score: _Optional[float] = ..., found_frame: _Optional[int] = ..., detected_frames: _Optional[_Iterable[int]] = ...) -> None: ...

class FollowedObject(_message.Message):
    __slots__ = ("obj_id", "first_frame", "keep_alive", "unmatched", "last_occluded", "reverse", "established")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_FIELD_NUMBER: _ClassVar[int]
    LAST_OCCLUDED_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    ESTABLISHED_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    first_frame: int
    keep_alive: int
    unmatched: int
    last_occluded: int
    reverse: bool
    established: bool
    def __init__(self, obj_id: _Optional[int] = ..., first_frame: _Optional[int] = ..., keep_alive: _Optional[int] = ..., unmatched: _Optional[int] = ..., last_occluded: _Optional[int] = ..., reverse: _Optional[bool] = ..., established: _Optional[bool] = ...) -> None: ...

class DuplicateCount(_message.Message):
    __slots__ = ("older_obj_id", "obj_id", "frames")
    OLDER_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    older_obj_id: int
    obj_id: int
    frames: int
    def __init__(self, older_obj_id: _Optional[int] = ..., obj_id: _Optional[int] = ..., frames: _Optional[int] = ...) -> None: ...

class GoneObject(_message.Message):
    __slots__ = ("obj_id", "frame_index")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    frame_index: int
    def __init__(self, obj_id: _Optional[int] = ..., frame_index: _Optional[int] = ...) -> None: ...

class ConceptSnapshot(_message.Message):
    __slots__ = ("concept", "objects", "duplicates", "gone", "last_frame", "next_obj_id")
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_FIELD_NUMBER: _ClassVar[int]
    NEXT_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    concept: _session_pb2.SessionConcept
    objects: _containers.RepeatedCompositeFieldContainer[FollowedObject]
    duplicates: _containers.RepeatedCompositeFieldContainer[DuplicateCount]
    gone: _containers.RepeatedCompositeFieldContainer[GoneObject]
    last_frame: int
    next_obj_id: int
    def __init__(self, concept: _Optional[_Union[_session_pb2.SessionConcept, _Mapping]] = ..., objects: _Optional[_Iterable[_Union[FollowedObject, _Mapping]]] = ..., duplicates: _Optional[_Iterable[_Union[DuplicateCount, _Mapping]]] = ..., gone: _Optional[_Iterable[_Union[GoneObject, _Mapping]]] = ..., last_frame: _Optional[int] = ..., next_obj_id: _Optional[int] = ...) -> None: ...

class FrameRef(_message.Message):
    __slots__ = ("frame_index", "embedding")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    embedding: _embedding_pb2.EmbeddingRef
    def __init__(self, frame_index: _Optional[int] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ...) -> None: ...

class KeyedAnswer(_message.Message):
    __slots__ = ("key", "request_digest", "answer")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    key: str
    request_digest: bytes
    answer: _any_pb2.Any
    def __init__(self, key: _Optional[str] = ..., request_digest: _Optional[bytes] = ..., answer: _Optional[_Union[_any_pb2.Any, _Mapping]] = ...) -> None: ...

class StreamPosition(_message.Message):
    __slots__ = ("propagation_id", "frame_index")
    PROPAGATION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    propagation_id: str
    frame_index: int
    def __init__(self, propagation_id: _Optional[str] = ..., frame_index: _Optional[int] = ...) -> None: ...

class SessionSnapshot(_message.Message):
    __slots__ = ("version", "session_id", "model_id", "ttl", "live", "revision", "objects", "history", "prompted_refs", "position", "answers", "concepts", "next_block")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PROMPTED_REFS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BLOCK_FIELD_NUMBER: _ClassVar[int]
    version: int
    session_id: str
    model_id: str
    ttl: _duration_pb2.Duration
    live: bool
    revision: int
    objects: _containers.RepeatedCompositeFieldContainer[ObjectSnapshot]
    history: _containers.RepeatedCompositeFieldContainer[_session_pb2.HistoryEntry]
    prompted_refs: _containers.RepeatedCompositeFieldContainer[FrameRef]
    position: StreamPosition
    answers: _containers.RepeatedCompositeFieldContainer[KeyedAnswer]
    concepts: _containers.RepeatedCompositeFieldContainer[ConceptSnapshot]
    next_block: int
    def __init__(self, version: _Optional[int] = ..., session_id: _Optional[str] = ..., model_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., live: _Optional[bool] = ..., revision: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[ObjectSnapshot, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[_session_pb2.HistoryEntry, _Mapping]]] = ..., prompted_refs: _Optional[_Iterable[_Union[FrameRef, _Mapping]]] = ..., position: _Optional[_Union[StreamPosition, _Mapping]] = ..., answers: _Optional[_Iterable[_Union[KeyedAnswer, _Mapping]]] = ..., concepts: _Optional[_Iterable[_Union[ConceptSnapshot, _Mapping]]] = ..., next_block: _Optional[int] = ...) -> None: ...
