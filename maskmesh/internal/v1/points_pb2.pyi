from maskmesh.internal.v1 import embedding_pb2 as _embedding_pb2
from maskmesh.v1 import points_pb2 as _points_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FramePurpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_PURPOSE_UNSPECIFIED: _ClassVar[FramePurpose]
    FRAME_PURPOSE_RESULT: _ClassVar[FramePurpose]
    FRAME_PURPOSE_REPLAY: _ClassVar[FramePurpose]
    FRAME_PURPOSE_QUERIES: _ClassVar[FramePurpose]
    FRAME_PURPOSE_CATCH_UP: _ClassVar[FramePurpose]
FRAME_PURPOSE_UNSPECIFIED: FramePurpose
FRAME_PURPOSE_RESULT: FramePurpose
FRAME_PURPOSE_REPLAY: FramePurpose
FRAME_PURPOSE_QUERIES: FramePurpose
FRAME_PURPOSE_CATCH_UP: FramePurpose

class PointTrackConfig(_message.Message):
    __slots__ = ("session_id", "points")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    points: int
    def __init__(self, session_id: _Optional[str] = ..., points: _Optional[int] = ...) -> None: ...

class PointFrame(_message.Message):
    __slots__ = ("frame_index", "embedding", "traceparent", "clock_offset_nanos", "points", "purpose", "removed_point_ids")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_NANOS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    REMOVED_POINT_IDS_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    embedding: _embedding_pb2.EmbeddingRef
    traceparent: str
    clock_offset_nanos: int
    points: _containers.RepeatedCompositeFieldContainer[_points_pb2.PointQuery]
    purpose: FramePurpose
    removed_point_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, frame_index: _Optional[int] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., traceparent: _Optional[str] = ..., clock_offset_nanos: _Optional[int] = ..., points: _Optional[_Iterable[_Union[_points_pb2.PointQuery, _Mapping]]] = ..., purpose: _Optional[_Union[FramePurpose, str]] = ..., removed_point_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class PointEmbedding(_message.Message):
    __slots__ = ("frame_index", "embedding")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    embedding: _embedding_pb2.EmbeddingRef
    def __init__(self, frame_index: _Optional[int] = ..., embedding: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ...) -> None: ...

class PointRoom(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: int
    def __init__(self, points: _Optional[int] = ...) -> None: ...

class PointRoomTaken(_message.Message):
    __slots__ = ("is_taken", "points")
    IS_TAKEN_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    is_taken: bool
    points: int
    def __init__(self, is_taken: _Optional[bool] = ..., points: _Optional[int] = ...) -> None: ...

class TrackPointsRequest(_message.Message):
    __slots__ = ("config", "frame", "embedding", "room")
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ROOM_FIELD_NUMBER: _ClassVar[int]
    config: PointTrackConfig
    frame: PointFrame
    embedding: PointEmbedding
    room: PointRoom
    def __init__(self, config: _Optional[_Union[PointTrackConfig, _Mapping]] = ..., frame: _Optional[_Union[PointFrame, _Mapping]] = ..., embedding: _Optional[_Union[PointEmbedding, _Mapping]] = ..., room: _Optional[_Union[PointRoom, _Mapping]] = ...) -> None: ...

class PointTrackStarted(_message.Message):
    __slots__ = ("model", "memory_frames", "tokenizer_points")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FRAMES_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_POINTS_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelInfo
    memory_frames: int
    tokenizer_points: int
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., memory_frames: _Optional[int] = ..., tokenizer_points: _Optional[int] = ...) -> None: ...

class PointResult(_message.Message):
    __slots__ = ("frame", "handling", "work")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    frame: _points_pb2.FramePoints
    handling: _embedding_pb2.Handling
    work: _embedding_pb2.WorkSummary
    def __init__(self, frame: _Optional[_Union[_points_pb2.FramePoints, _Mapping]] = ..., handling: _Optional[_Union[_embedding_pb2.Handling, _Mapping]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ...) -> None: ...

class PointEmbeddingNeeded(_message.Message):
    __slots__ = ("frame_index",)
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    def __init__(self, frame_index: _Optional[int] = ...) -> None: ...

class TrackPointsResponse(_message.Message):
    __slots__ = ("started", "result", "embedding_needed", "room")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_NEEDED_FIELD_NUMBER: _ClassVar[int]
    ROOM_FIELD_NUMBER: _ClassVar[int]
    started: PointTrackStarted
    result: PointResult
    embedding_needed: PointEmbeddingNeeded
    room: PointRoomTaken
    def __init__(self, started: _Optional[_Union[PointTrackStarted, _Mapping]] = ..., result: _Optional[_Union[PointResult, _Mapping]] = ..., embedding_needed: _Optional[_Union[PointEmbeddingNeeded, _Mapping]] = ..., room: _Optional[_Union[PointRoomTaken, _Mapping]] = ...) -> None: ...

class PlacePointsRequest(_message.Message):
    __slots__ = ("session_id", "epoch", "grid", "width", "height")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GRID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    grid: _points_pb2.PointGrid
    width: int
    height: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., grid: _Optional[_Union[_points_pb2.PointGrid, _Mapping]] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class PlacePointsResponse(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[_points_pb2.PointQuery]
    def __init__(self, points: _Optional[_Iterable[_Union[_points_pb2.PointQuery, _Mapping]]] = ...) -> None: ...

class TokenizeMotionRequest(_message.Message):
    __slots__ = ("intervals", "points", "velocities", "tenant")
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    VELOCITIES_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    intervals: int
    points: int
    velocities: bytes
    tenant: str
    def __init__(self, intervals: _Optional[int] = ..., points: _Optional[int] = ..., velocities: _Optional[bytes] = ..., tenant: _Optional[str] = ...) -> None: ...

class TokenizeMotionResponse(_message.Message):
    __slots__ = ("codes", "energy", "stage_times")
    CODES_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    codes: _containers.RepeatedScalarFieldContainer[int]
    energy: float
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    def __init__(self, codes: _Optional[_Iterable[int]] = ..., energy: _Optional[float] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ...) -> None: ...
