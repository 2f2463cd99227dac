import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.internal.v1 import embedding_pb2 as _embedding_pb2
from maskmesh.internal.v1 import snapshot_pb2 as _snapshot_pb2
from maskmesh.v1 import session_pb2 as _session_pb2
from maskmesh.v1 import status_pb2 as _status_pb2
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
    __slots__ = ("embedding", "prompts", "multimask_output", "mask_options")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MULTIMASK_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    embedding: _embedding_pb2.EmbeddingRef
    prompts: _containers.RepeatedCompositeFieldContainer[ImagePrompt]
    multimask_output: bool
    mask_options: _types_pb2.MaskOptions
    def __init__(self, embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., prompts: _Optional[_Iterable[_Union[ImagePrompt, _Mapping]]] = ..., multimask_output: _Optional[bool] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ...) -> None: ...

class SegmentImageResponse(_message.Message):
    __slots__ = ("masks", "work")
    MASKS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[_types_pb2.ObjectMask]
    work: _embedding_pb2.WorkSummary
    def __init__(self, masks: _Optional[_Iterable[_Union[_types_pb2.ObjectMask, _Mapping]]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ...) -> None: ...

class SegmentConceptsRequest(_message.Message):
    __slots__ = ("embedding", "concepts", "score_threshold", "max_instances", "omit_masks", "mask_options")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    OMIT_MASKS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    embedding: _embedding_pb2.EmbeddingRef
    concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Concept]
    score_threshold: float
    max_instances: int
    omit_masks: bool
    mask_options: _types_pb2.MaskOptions
    def __init__(self, embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., concepts: _Optional[_Iterable[_Union[_types_pb2.Concept, _Mapping]]] = ..., score_threshold: _Optional[float] = ..., max_instances: _Optional[int] = ..., omit_masks: _Optional[bool] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ...) -> None: ...

class SegmentConceptsResponse(_message.Message):
    __slots__ = ("concepts", "work")
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.ConceptInstances]
    work: _embedding_pb2.WorkSummary
    def __init__(self, concepts: _Optional[_Iterable[_Union[_types_pb2.ConceptInstances, _Mapping]]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ...) -> None: ...

class SegmentGridRequest(_message.Message):
    __slots__ = ("embedding", "options", "mask_options")
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    embedding: _embedding_pb2.EmbeddingRef
    options: _types_pb2.EverythingOptions
    mask_options: _types_pb2.MaskOptions
    def __init__(self, embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.EverythingOptions, _Mapping]] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ...) -> None: ...

class SegmentGridResponse(_message.Message):
    __slots__ = ("masks", "work")
    MASKS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[_types_pb2.FoundMask]
    work: _embedding_pb2.WorkSummary
    def __init__(self, masks: _Optional[_Iterable[_Union[_types_pb2.FoundMask, _Mapping]]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("session_id", "ttl", "live", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ttl: _duration_pb2.Duration
    live: bool
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., live: _Optional[bool] = ..., epoch: _Optional[int] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("ttl", "model")
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ttl: _duration_pb2.Duration
    model: _types_pb2.ModelInfo
    def __init__(self, ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class AddPromptRequest(_message.Message):
    __slots__ = ("session_id", "frame_index", "obj_id", "prompt", "clear_previous", "mask_options", "embedding", "expected_revision", "idempotency_key", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frame_index: int
    obj_id: int
    prompt: _types_pb2.Prompt
    clear_previous: bool
    mask_options: _types_pb2.MaskOptions
    embedding: _embedding_pb2.EmbeddingRef
    expected_revision: int
    idempotency_key: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., clear_previous: _Optional[bool] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., expected_revision: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class AddPromptResponse(_message.Message):
    __slots__ = ("mask", "revision", "stage_times", "work")
    MASK_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    mask: _types_pb2.ObjectMask
    revision: int
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    work: _embedding_pb2.WorkSummary
    def __init__(self, mask: _Optional[_Union[_types_pb2.ObjectMask, _Mapping]] = ..., revision: _Optional[int] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ...) -> None: ...

class AddConceptRequest(_message.Message):
    __slots__ = ("session_id", "concept_id", "concept", "frame_index", "options", "mask_options", "embedding", "expected_revision", "idempotency_key", "epoch", "first_obj_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    concept_id: int
    concept: _types_pb2.Concept
    frame_index: int
    options: _types_pb2.ConceptOptions
    mask_options: _types_pb2.MaskOptions
    embedding: _embedding_pb2.EmbeddingRef
    expected_revision: int
    idempotency_key: str
    epoch: int
    first_obj_id: int
    def __init__(self, session_id: _Optional[str] = ..., concept_id: _Optional[int] = ..., concept: _Optional[_Union[_types_pb2.Concept, _Mapping]] = ..., frame_index: _Optional[int] = ..., options: _Optional[_Union[_types_pb2.ConceptOptions, _Mapping]] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., expected_revision: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ..., first_obj_id: _Optional[int] = ...) -> None: ...

class AddConceptResponse(_message.Message):
    __slots__ = ("masks", "revision", "stage_times", "work", "first_obj_id")
    MASKS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    FIRST_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    masks: _containers.RepeatedCompositeFieldContainer[_types_pb2.ObjectMask]
    revision: int
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    work: _embedding_pb2.WorkSummary
    first_obj_id: int
    def __init__(self, masks: _Optional[_Iterable[_Union[_types_pb2.ObjectMask, _Mapping]]] = ..., revision: _Optional[int] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ..., first_obj_id: _Optional[int] = ...) -> None: ...

class RemoveConceptRequest(_message.Message):
    __slots__ = ("session_id", "concept_id", "keep_objects", "expected_revision", "idempotency_key", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    concept_id: int
    keep_objects: bool
    expected_revision: int
    idempotency_key: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., concept_id: _Optional[int] = ..., keep_objects: _Optional[bool] = ..., expected_revision: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class RemoveConceptResponse(_message.Message):
    __slots__ = ("concept_ids", "obj_ids", "revision")
    CONCEPT_IDS_FIELD_NUMBER: _ClassVar[int]
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    concept_ids: _containers.RepeatedScalarFieldContainer[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, concept_ids: _Optional[_Iterable[int]] = ..., obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class ClearPromptsRequest(_message.Message):
    __slots__ = ("session_id", "frame_index", "obj_id", "expected_revision", "idempotency_key", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frame_index: int
    obj_id: int
    expected_revision: int
    idempotency_key: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., expected_revision: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class ClearPromptsResponse(_message.Message):
    __slots__ = ("obj_ids", "revision")
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("revision", "objects", "history", "concepts")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    objects: _containers.RepeatedCompositeFieldContainer[_session_pb2.SessionObject]
    history: _containers.RepeatedCompositeFieldContainer[_session_pb2.HistoryEntry]
    concepts: _containers.RepeatedCompositeFieldContainer[_session_pb2.SessionConcept]
    def __init__(self, revision: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[_session_pb2.SessionObject, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[_session_pb2.HistoryEntry, _Mapping]]] = ..., concepts: _Optional[_Iterable[_Union[_session_pb2.SessionConcept, _Mapping]]] = ...) -> None: ...

class TrackConfig(_message.Message):
    __slots__ = ("session_id", "mask_options", "direction", "epoch", "propagation_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    mask_options: _types_pb2.MaskOptions
    direction: _session_pb2.Direction
    epoch: int
    propagation_id: str
    def __init__(self, session_id: _Optional[str] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., direction: _Optional[_Union[_session_pb2.Direction, str]] = ..., epoch: _Optional[int] = ..., propagation_id: _Optional[str] = ...) -> None: ...

class TrackFrame(_message.Message):
    __slots__ = ("frame_index", "embedding", "traceparent", "clock_offset_nanos")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_NANOS_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    embedding: _embedding_pb2.EmbeddingRef
    traceparent: str
    clock_offset_nanos: int
    def __init__(self, frame_index: _Optional[int] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., traceparent: _Optional[str] = ..., clock_offset_nanos: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("first_prompted_frame_index", "last_frame_index")
    FIRST_PROMPTED_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    first_prompted_frame_index: int
    last_frame_index: int
    def __init__(self, first_prompted_frame_index: _Optional[int] = ..., last_frame_index: _Optional[int] = ...) -> None: ...

class TrackResult(_message.Message):
    __slots__ = ("frame", "handling", "work", "hotstart_delay")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    HOTSTART_DELAY_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    handling: _embedding_pb2.Handling
    work: _embedding_pb2.WorkSummary
    hotstart_delay: int
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., handling: _Optional[_Union[_embedding_pb2.Handling, _Mapping]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ..., hotstart_delay: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("session_id", "obj_id", "expected_revision", "idempotency_key", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    obj_id: int
    expected_revision: int
    idempotency_key: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., obj_id: _Optional[int] = ..., expected_revision: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class RemoveObjectResponse(_message.Message):
    __slots__ = ("obj_ids", "revision")
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session_id", "expected_revision", "idempotency_key", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    expected_revision: int
    idempotency_key: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., expected_revision: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class ResetSessionResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class RenewSessionRequest(_message.Message):
    __slots__ = ("session_id", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class RenewSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

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

class ExportSessionRequest(_message.Message):
    __slots__ = ("session_id", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class ExportSessionResponse(_message.Message):
    __slots__ = ("session", "state")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    session: _snapshot_pb2.SessionSnapshot
    state: _snapshot_pb2.FrameState
    def __init__(self, session: _Optional[_Union[_snapshot_pb2.SessionSnapshot, _Mapping]] = ..., state: _Optional[_Union[_snapshot_pb2.FrameState, _Mapping]] = ...) -> None: ...

class ImportConfig(_message.Message):
    __slots__ = ("session", "epoch")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session: _snapshot_pb2.SessionSnapshot
    epoch: int
    def __init__(self, session: _Optional[_Union[_snapshot_pb2.SessionSnapshot, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class ImportSessionFinish(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ImportSessionRequest(_message.Message):
    __slots__ = ("config", "state", "finish")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    config: ImportConfig
    state: _snapshot_pb2.FrameState
    finish: ImportSessionFinish
    def __init__(self, config: _Optional[_Union[ImportConfig, _Mapping]] = ..., state: _Optional[_Union[_snapshot_pb2.FrameState, _Mapping]] = ..., finish: _Optional[_Union[ImportSessionFinish, _Mapping]] = ...) -> None: ...

class ImportSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLoadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLoadResponse(_message.Message):
    __slots__ = ("sessions", "propagating", "max_sessions", "waiting", "draining", "points")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    PROPAGATING_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    sessions: int
    propagating: int
    max_sessions: int
    waiting: int
    draining: bool
    points: int
    def __init__(self, sessions: _Optional[int] = ..., propagating: _Optional[int] = ..., max_sessions: _Optional[int] = ..., waiting: _Optional[int] = ..., draining: _Optional[bool] = ..., points: _Optional[int] = ...) -> None: ...

class GetTrackerStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTrackerStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.ServiceStatus
    def __init__(self, status: _Optional[_Union[_status_pb2.ServiceStatus, _Mapping]] = ...) -> None: ...
