import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.v1 import budget_pb2 as _budget_pb2
from maskmesh.v1 import erase_pb2 as _erase_pb2
from maskmesh.v1 import error_reason_pb2 as _error_reason_pb2
from maskmesh.v1 import motion_pb2 as _motion_pb2
from maskmesh.v1 import points_pb2 as _points_pb2
from maskmesh.v1 import session_pb2 as _session_pb2
from maskmesh.v1 import status_pb2 as _status_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OverloadPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLOAD_POLICY_UNSPECIFIED: _ClassVar[OverloadPolicy]
    OVERLOAD_POLICY_WAIT: _ClassVar[OverloadPolicy]
    OVERLOAD_POLICY_SKIP: _ClassVar[OverloadPolicy]
    OVERLOAD_POLICY_DROP_OLDEST: _ClassVar[OverloadPolicy]
OVERLOAD_POLICY_UNSPECIFIED: OverloadPolicy
OVERLOAD_POLICY_WAIT: OverloadPolicy
OVERLOAD_POLICY_SKIP: OverloadPolicy
OVERLOAD_POLICY_DROP_OLDEST: OverloadPolicy

class ObjectPrompt(_message.Message):
    __slots__ = ("obj_id", "prompt")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    prompt: _types_pb2.Prompt
    def __init__(self, obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ...) -> None: ...

class SegmentImageRequest(_message.Message):
    __slots__ = ("image", "prompts", "multimask_output", "mask_options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MULTIMASK_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: _types_pb2.Image
    prompts: _containers.RepeatedCompositeFieldContainer[ObjectPrompt]
    multimask_output: bool
    mask_options: _types_pb2.MaskOptions
    def __init__(self, image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., prompts: _Optional[_Iterable[_Union[ObjectPrompt, _Mapping]]] = ..., multimask_output: _Optional[bool] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ...) -> None: ...

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

class SegmentConceptsRequest(_message.Message):
    __slots__ = ("image", "concepts", "score_threshold", "max_instances", "omit_masks", "mask_options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    OMIT_MASKS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: _types_pb2.Image
    concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.Concept]
    score_threshold: float
    max_instances: int
    omit_masks: bool
    mask_options: _types_pb2.MaskOptions
    def __init__(self, image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., concepts: _Optional[_Iterable[_Union[_types_pb2.Concept, _Mapping]]] = ..., score_threshold: _Optional[float] = ..., max_instances: _Optional[int] = ..., omit_masks: _Optional[bool] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ...) -> None: ...

class SegmentConceptsResponse(_message.Message):
    __slots__ = ("width", "height", "concepts", "trace_id")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    concepts: _containers.RepeatedCompositeFieldContainer[_types_pb2.ConceptInstances]
    trace_id: str
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., concepts: _Optional[_Iterable[_Union[_types_pb2.ConceptInstances, _Mapping]]] = ..., trace_id: _Optional[str] = ...) -> None: ...

class SegmentEverythingRequest(_message.Message):
    __slots__ = ("image", "options", "mask_options")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    image: _types_pb2.Image
    options: _types_pb2.EverythingOptions
    mask_options: _types_pb2.MaskOptions
    def __init__(self, image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.EverythingOptions, _Mapping]] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ...) -> None: ...

class SegmentEverythingResponse(_message.Message):
    __slots__ = ("width", "height", "masks", "trace_id")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    masks: _containers.RepeatedCompositeFieldContainer[_types_pb2.FoundMask]
    trace_id: str
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., masks: _Optional[_Iterable[_Union[_types_pb2.FoundMask, _Mapping]]] = ..., trace_id: _Optional[str] = ...) -> None: ...

class CreateSessionRequest(_message.Message):
    __slots__ = ("ttl", "idempotency_key")
    TTL_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ttl: _duration_pb2.Duration
    idempotency_key: str
    def __init__(self, ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class CreateSessionResponse(_message.Message):
    __slots__ = ("session_id", "ttl", "model")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ttl: _duration_pb2.Duration
    model: _types_pb2.ModelInfo
    def __init__(self, session_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session_id", "ttl", "model", "num_frames", "width", "height", "frames_per_second", "revision", "objects", "history", "concepts")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CONCEPTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ttl: _duration_pb2.Duration
    model: _types_pb2.ModelInfo
    num_frames: int
    width: int
    height: int
    frames_per_second: float
    revision: int
    objects: _containers.RepeatedCompositeFieldContainer[_session_pb2.SessionObject]
    history: _containers.RepeatedCompositeFieldContainer[_session_pb2.HistoryEntry]
    concepts: _containers.RepeatedCompositeFieldContainer[_session_pb2.SessionConcept]
    def __init__(self, session_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., num_frames: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., frames_per_second: _Optional[float] = ..., revision: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[_session_pb2.SessionObject, _Mapping]]] = ..., history: _Optional[_Iterable[_Union[_session_pb2.HistoryEntry, _Mapping]]] = ..., concepts: _Optional[_Iterable[_Union[_session_pb2.SessionConcept, _Mapping]]] = ...) -> None: ...

class AppendFramesConfig(_message.Message):
    __slots__ = ("session_id", "idempotency_key", "first_frame_index")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    idempotency_key: str
    first_frame_index: int
    def __init__(self, session_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., first_frame_index: _Optional[int] = ...) -> None: ...

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

class AppendImagesRequest(_message.Message):
    __slots__ = ("config", "images")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    config: AppendFramesConfig
    images: _containers.RepeatedCompositeFieldContainer[_types_pb2.Image]
    def __init__(self, config: _Optional[_Union[AppendFramesConfig, _Mapping]] = ..., images: _Optional[_Iterable[_Union[_types_pb2.Image, _Mapping]]] = ...) -> None: ...

class AppendImagesResponse(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: AppendFramesResponse
    def __init__(self, frames: _Optional[_Union[AppendFramesResponse, _Mapping]] = ...) -> None: ...

class AddPromptRequest(_message.Message):
    __slots__ = ("session_id", "frame_index", "obj_id", "prompt", "clear_previous", "mask_options", "idempotency_key", "expected_revision")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frame_index: int
    obj_id: int
    prompt: _types_pb2.Prompt
    clear_previous: bool
    mask_options: _types_pb2.MaskOptions
    idempotency_key: str
    expected_revision: int
    def __init__(self, session_id: _Optional[str] = ..., frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., clear_previous: _Optional[bool] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., expected_revision: _Optional[int] = ...) -> None: ...

class AddPromptResponse(_message.Message):
    __slots__ = ("frame", "revision")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    revision: int
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class AddConceptRequest(_message.Message):
    __slots__ = ("session_id", "concept_id", "concept", "frame_index", "options", "mask_options", "idempotency_key", "expected_revision", "first_obj_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    FIRST_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    concept_id: int
    concept: _types_pb2.Concept
    frame_index: int
    options: _types_pb2.ConceptOptions
    mask_options: _types_pb2.MaskOptions
    idempotency_key: str
    expected_revision: int
    first_obj_id: int
    def __init__(self, session_id: _Optional[str] = ..., concept_id: _Optional[int] = ..., concept: _Optional[_Union[_types_pb2.Concept, _Mapping]] = ..., frame_index: _Optional[int] = ..., options: _Optional[_Union[_types_pb2.ConceptOptions, _Mapping]] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., expected_revision: _Optional[int] = ..., first_obj_id: _Optional[int] = ...) -> None: ...

class AddConceptResponse(_message.Message):
    __slots__ = ("frame", "revision", "first_obj_id")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FIRST_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    revision: int
    first_obj_id: int
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., revision: _Optional[int] = ..., first_obj_id: _Optional[int] = ...) -> None: ...

class RemoveConceptRequest(_message.Message):
    __slots__ = ("session_id", "concept_id", "keep_objects", "idempotency_key", "expected_revision")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    concept_id: int
    keep_objects: bool
    idempotency_key: str
    expected_revision: int
    def __init__(self, session_id: _Optional[str] = ..., concept_id: _Optional[int] = ..., keep_objects: _Optional[bool] = ..., idempotency_key: _Optional[str] = ..., expected_revision: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("session_id", "frame_index", "obj_id", "idempotency_key", "expected_revision")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    frame_index: int
    obj_id: int
    idempotency_key: str
    expected_revision: int
    def __init__(self, session_id: _Optional[str] = ..., frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., expected_revision: _Optional[int] = ...) -> None: ...

class ClearPromptsResponse(_message.Message):
    __slots__ = ("obj_ids", "revision")
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class PropagateVideoRequest(_message.Message):
    __slots__ = ("session_id", "start_frame_index", "max_frames", "mask_options", "direction", "resume_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    START_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    start_frame_index: int
    max_frames: int
    mask_options: _types_pb2.MaskOptions
    direction: _session_pb2.Direction
    resume_token: str
    def __init__(self, session_id: _Optional[str] = ..., start_frame_index: _Optional[int] = ..., max_frames: _Optional[int] = ..., mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., direction: _Optional[_Union[_session_pb2.Direction, str]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class PropagateVideoResponse(_message.Message):
    __slots__ = ("frame", "resume_token")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    resume_token: str
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...

class StreamConfig(_message.Message):
    __slots__ = ("mask_options", "overload", "ttl", "resume_token", "next_sequence", "budget", "motion_gate", "erase", "motion")
    MASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OVERLOAD_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    MOTION_GATE_FIELD_NUMBER: _ClassVar[int]
    ERASE_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    mask_options: _types_pb2.MaskOptions
    overload: OverloadPolicy
    ttl: _duration_pb2.Duration
    resume_token: str
    next_sequence: int
    budget: _budget_pb2.Budget
    motion_gate: _budget_pb2.MotionGate
    erase: _erase_pb2.EraseOptions
    motion: _motion_pb2.MotionOptions
    def __init__(self, mask_options: _Optional[_Union[_types_pb2.MaskOptions, _Mapping]] = ..., overload: _Optional[_Union[OverloadPolicy, str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resume_token: _Optional[str] = ..., next_sequence: _Optional[int] = ..., budget: _Optional[_Union[_budget_pb2.Budget, _Mapping]] = ..., motion_gate: _Optional[_Union[_budget_pb2.MotionGate, _Mapping]] = ..., erase: _Optional[_Union[_erase_pb2.EraseOptions, _Mapping]] = ..., motion: _Optional[_Union[_motion_pb2.MotionOptions, _Mapping]] = ...) -> None: ...

class StreamFrame(_message.Message):
    __slots__ = ("sequence", "image")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    image: _types_pb2.Image
    def __init__(self, sequence: _Optional[int] = ..., image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ...) -> None: ...

class StreamPrompt(_message.Message):
    __slots__ = ("request_id", "sequence", "obj_id", "prompt", "clear_previous")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sequence: int
    obj_id: int
    prompt: _types_pb2.Prompt
    clear_previous: bool
    def __init__(self, request_id: _Optional[str] = ..., sequence: _Optional[int] = ..., obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., clear_previous: _Optional[bool] = ...) -> None: ...

class StreamRemoval(_message.Message):
    __slots__ = ("request_id", "obj_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    obj_id: int
    def __init__(self, request_id: _Optional[str] = ..., obj_id: _Optional[int] = ...) -> None: ...

class StreamPoints(_message.Message):
    __slots__ = ("request_id", "sequence", "points", "grids")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    GRIDS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sequence: int
    points: _containers.RepeatedCompositeFieldContainer[_points_pb2.PointQuery]
    grids: _containers.RepeatedCompositeFieldContainer[_points_pb2.PointGrid]
    def __init__(self, request_id: _Optional[str] = ..., sequence: _Optional[int] = ..., points: _Optional[_Iterable[_Union[_points_pb2.PointQuery, _Mapping]]] = ..., grids: _Optional[_Iterable[_Union[_points_pb2.PointGrid, _Mapping]]] = ...) -> None: ...

class StreamPointsRemoval(_message.Message):
    __slots__ = ("request_id", "point_ids")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POINT_IDS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    point_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request_id: _Optional[str] = ..., point_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamConcept(_message.Message):
    __slots__ = ("request_id", "concept_id", "concept", "sequence", "options")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    concept_id: int
    concept: _types_pb2.Concept
    sequence: int
    options: _types_pb2.ConceptOptions
    def __init__(self, request_id: _Optional[str] = ..., concept_id: _Optional[int] = ..., concept: _Optional[_Union[_types_pb2.Concept, _Mapping]] = ..., sequence: _Optional[int] = ..., options: _Optional[_Union[_types_pb2.ConceptOptions, _Mapping]] = ...) -> None: ...

class StreamConceptRemoval(_message.Message):
    __slots__ = ("request_id", "concept_id", "keep_objects")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    KEEP_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    concept_id: int
    keep_objects: bool
    def __init__(self, request_id: _Optional[str] = ..., concept_id: _Optional[int] = ..., keep_objects: _Optional[bool] = ...) -> None: ...

class StreamFinish(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SegmentStreamRequest(_message.Message):
    __slots__ = ("config", "frame", "prompt", "removal", "finish", "concept", "concept_removal", "points", "points_removal")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REMOVAL_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_REMOVAL_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    POINTS_REMOVAL_FIELD_NUMBER: _ClassVar[int]
    config: StreamConfig
    frame: StreamFrame
    prompt: StreamPrompt
    removal: StreamRemoval
    finish: StreamFinish
    concept: StreamConcept
    concept_removal: StreamConceptRemoval
    points: StreamPoints
    points_removal: StreamPointsRemoval
    def __init__(self, config: _Optional[_Union[StreamConfig, _Mapping]] = ..., frame: _Optional[_Union[StreamFrame, _Mapping]] = ..., prompt: _Optional[_Union[StreamPrompt, _Mapping]] = ..., removal: _Optional[_Union[StreamRemoval, _Mapping]] = ..., finish: _Optional[_Union[StreamFinish, _Mapping]] = ..., concept: _Optional[_Union[StreamConcept, _Mapping]] = ..., concept_removal: _Optional[_Union[StreamConceptRemoval, _Mapping]] = ..., points: _Optional[_Union[StreamPoints, _Mapping]] = ..., points_removal: _Optional[_Union[StreamPointsRemoval, _Mapping]] = ...) -> None: ...

class ReceiveStreamRequest(_message.Message):
    __slots__ = ("config",)
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    config: StreamConfig
    def __init__(self, config: _Optional[_Union[StreamConfig, _Mapping]] = ...) -> None: ...

class ReceiveStreamResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: SegmentStreamResponse
    def __init__(self, response: _Optional[_Union[SegmentStreamResponse, _Mapping]] = ...) -> None: ...

class SendStreamRequest(_message.Message):
    __slots__ = ("session_id", "messages")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    messages: _containers.RepeatedCompositeFieldContainer[SegmentStreamRequest]
    def __init__(self, session_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[SegmentStreamRequest, _Mapping]]] = ...) -> None: ...

class SendStreamResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StreamStarted(_message.Message):
    __slots__ = ("session_id", "ttl", "model", "next_sequence", "window", "resume_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ttl: _duration_pb2.Duration
    model: _types_pb2.ModelInfo
    next_sequence: int
    window: int
    resume_token: str
    def __init__(self, session_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., next_sequence: _Optional[int] = ..., window: _Optional[int] = ..., resume_token: _Optional[str] = ...) -> None: ...

class StreamResult(_message.Message):
    __slots__ = ("frame", "sequence", "skipped", "resume_token", "window", "gated", "newer_frames", "erased", "points", "motion_windows", "lost_point_ids")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    GATED_FIELD_NUMBER: _ClassVar[int]
    NEWER_FRAMES_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MOTION_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    LOST_POINT_IDS_FIELD_NUMBER: _ClassVar[int]
    frame: _types_pb2.FrameMasks
    sequence: int
    skipped: _containers.RepeatedScalarFieldContainer[int]
    resume_token: str
    window: _budget_pb2.WindowRecord
    gated: bool
    newer_frames: int
    erased: _erase_pb2.ErasedImage
    points: _points_pb2.FramePoints
    motion_windows: _containers.RepeatedCompositeFieldContainer[_motion_pb2.MotionWindow]
    lost_point_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., sequence: _Optional[int] = ..., skipped: _Optional[_Iterable[int]] = ..., resume_token: _Optional[str] = ..., window: _Optional[_Union[_budget_pb2.WindowRecord, _Mapping]] = ..., gated: _Optional[bool] = ..., newer_frames: _Optional[int] = ..., erased: _Optional[_Union[_erase_pb2.ErasedImage, _Mapping]] = ..., points: _Optional[_Union[_points_pb2.FramePoints, _Mapping]] = ..., motion_windows: _Optional[_Iterable[_Union[_motion_pb2.MotionWindow, _Mapping]]] = ..., lost_point_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamPrompted(_message.Message):
    __slots__ = ("request_id", "frame", "revision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    frame: _types_pb2.FrameMasks
    revision: int
    def __init__(self, request_id: _Optional[str] = ..., frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class StreamRemoved(_message.Message):
    __slots__ = ("request_id", "obj_ids", "revision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, request_id: _Optional[str] = ..., obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class StreamPointsAdded(_message.Message):
    __slots__ = ("request_id", "points", "model")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    points: _containers.RepeatedCompositeFieldContainer[_points_pb2.PointQuery]
    model: _types_pb2.ModelInfo
    def __init__(self, request_id: _Optional[str] = ..., points: _Optional[_Iterable[_Union[_points_pb2.PointQuery, _Mapping]]] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class StreamPointsRemoved(_message.Message):
    __slots__ = ("request_id", "point_ids")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POINT_IDS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    point_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, request_id: _Optional[str] = ..., point_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamConceptAdded(_message.Message):
    __slots__ = ("request_id", "frame", "revision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    frame: _types_pb2.FrameMasks
    revision: int
    def __init__(self, request_id: _Optional[str] = ..., frame: _Optional[_Union[_types_pb2.FrameMasks, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class StreamConceptRemoved(_message.Message):
    __slots__ = ("request_id", "concept_ids", "obj_ids", "revision")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_IDS_FIELD_NUMBER: _ClassVar[int]
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    concept_ids: _containers.RepeatedScalarFieldContainer[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, request_id: _Optional[str] = ..., concept_ids: _Optional[_Iterable[int]] = ..., obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class StreamRejected(_message.Message):
    __slots__ = ("request_id", "sequence", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sequence: int
    reason: _error_reason_pb2.ErrorReason
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., sequence: _Optional[int] = ..., reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SegmentStreamResponse(_message.Message):
    __slots__ = ("started", "result", "prompted", "removed", "rejected", "concept_added", "concept_removed", "summary", "points_added", "points_removed")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROMPTED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ADDED_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    POINTS_ADDED_FIELD_NUMBER: _ClassVar[int]
    POINTS_REMOVED_FIELD_NUMBER: _ClassVar[int]
    started: StreamStarted
    result: StreamResult
    prompted: StreamPrompted
    removed: StreamRemoved
    rejected: StreamRejected
    concept_added: StreamConceptAdded
    concept_removed: StreamConceptRemoved
    summary: _budget_pb2.StreamSummary
    points_added: StreamPointsAdded
    points_removed: StreamPointsRemoved
    def __init__(self, started: _Optional[_Union[StreamStarted, _Mapping]] = ..., result: _Optional[_Union[StreamResult, _Mapping]] = ..., prompted: _Optional[_Union[StreamPrompted, _Mapping]] = ..., removed: _Optional[_Union[StreamRemoved, _Mapping]] = ..., rejected: _Optional[_Union[StreamRejected, _Mapping]] = ..., concept_added: _Optional[_Union[StreamConceptAdded, _Mapping]] = ..., concept_removed: _Optional[_Union[StreamConceptRemoved, _Mapping]] = ..., summary: _Optional[_Union[_budget_pb2.StreamSummary, _Mapping]] = ..., points_added: _Optional[_Union[StreamPointsAdded, _Mapping]] = ..., points_removed: _Optional[_Union[StreamPointsRemoved, _Mapping]] = ...) -> None: ...

class RemoveObjectRequest(_message.Message):
    __slots__ = ("session_id", "obj_id", "idempotency_key", "expected_revision")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    obj_id: int
    idempotency_key: str
    expected_revision: int
    def __init__(self, session_id: _Optional[str] = ..., obj_id: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., expected_revision: _Optional[int] = ...) -> None: ...

class RemoveObjectResponse(_message.Message):
    __slots__ = ("obj_ids", "revision")
    OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    obj_ids: _containers.RepeatedScalarFieldContainer[int]
    revision: int
    def __init__(self, obj_ids: _Optional[_Iterable[int]] = ..., revision: _Optional[int] = ...) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session_id", "idempotency_key", "expected_revision")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    idempotency_key: str
    expected_revision: int
    def __init__(self, session_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., expected_revision: _Optional[int] = ...) -> None: ...

class ResetSessionResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class DeleteSessionRequest(_message.Message):
    __slots__ = ("session_id", "idempotency_key")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    idempotency_key: str
    def __init__(self, session_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class DeleteSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMeshRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMeshResponse(_message.Message):
    __slots__ = ("services", "trace_url")
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    TRACE_URL_FIELD_NUMBER: _ClassVar[int]
    services: _containers.RepeatedCompositeFieldContainer[_status_pb2.ServiceStatus]
    trace_url: str
    def __init__(self, services: _Optional[_Iterable[_Union[_status_pb2.ServiceStatus, _Mapping]]] = ..., trace_url: _Optional[str] = ...) -> None: ...
