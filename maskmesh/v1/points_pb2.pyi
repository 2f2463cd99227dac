import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.v1 import motion_pb2 as _motion_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PointQuery(_message.Message):
    __slots__ = ("point_id", "frame_index", "x", "y")
    POINT_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    point_id: int
    frame_index: int
    x: float
    y: float
    def __init__(self, point_id: _Optional[int] = ..., frame_index: _Optional[int] = ..., x: _Optional[float] = ..., y: _Optional[float] = ...) -> None: ...

class PointGrid(_message.Message):
    __slots__ = ("first_point_id", "frame_index", "rows", "columns", "obj_id")
    FIRST_POINT_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    first_point_id: int
    frame_index: int
    rows: int
    columns: int
    obj_id: int
    def __init__(self, first_point_id: _Optional[int] = ..., frame_index: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., obj_id: _Optional[int] = ...) -> None: ...

class TrackPointsRequest(_message.Message):
    __slots__ = ("session_id", "points", "grids", "max_frames", "resume_token", "motion")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    GRIDS_FIELD_NUMBER: _ClassVar[int]
    MAX_FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    points: _containers.RepeatedCompositeFieldContainer[PointQuery]
    grids: _containers.RepeatedCompositeFieldContainer[PointGrid]
    max_frames: int
    resume_token: str
    motion: _motion_pb2.MotionOptions
    def __init__(self, session_id: _Optional[str] = ..., points: _Optional[_Iterable[_Union[PointQuery, _Mapping]]] = ..., grids: _Optional[_Iterable[_Union[PointGrid, _Mapping]]] = ..., max_frames: _Optional[int] = ..., resume_token: _Optional[str] = ..., motion: _Optional[_Union[_motion_pb2.MotionOptions, _Mapping]] = ...) -> None: ...

class TrackedPoint(_message.Message):
    __slots__ = ("point_id", "x", "y", "visible", "confidence")
    POINT_ID_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    point_id: int
    x: float
    y: float
    visible: bool
    confidence: float
    def __init__(self, point_id: _Optional[int] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., visible: _Optional[bool] = ..., confidence: _Optional[float] = ...) -> None: ...

class FramePoints(_message.Message):
    __slots__ = ("frame_index", "points", "trace_id", "width", "height", "stage_times", "time", "repeats_previous")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    REPEATS_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    points: _containers.RepeatedCompositeFieldContainer[TrackedPoint]
    trace_id: str
    width: int
    height: int
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    time: _duration_pb2.Duration
    repeats_previous: bool
    def __init__(self, frame_index: _Optional[int] = ..., points: _Optional[_Iterable[_Union[TrackedPoint, _Mapping]]] = ..., trace_id: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., repeats_previous: _Optional[bool] = ...) -> None: ...

class TrackPointsResponse(_message.Message):
    __slots__ = ("frame", "resume_token", "model", "points", "motion_windows")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MOTION_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    frame: FramePoints
    resume_token: str
    model: _types_pb2.ModelInfo
    points: _containers.RepeatedCompositeFieldContainer[PointQuery]
    motion_windows: _containers.RepeatedCompositeFieldContainer[_motion_pb2.MotionWindow]
    def __init__(self, frame: _Optional[_Union[FramePoints, _Mapping]] = ..., resume_token: _Optional[str] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., points: _Optional[_Iterable[_Union[PointQuery, _Mapping]]] = ..., motion_windows: _Optional[_Iterable[_Union[_motion_pb2.MotionWindow, _Mapping]]] = ...) -> None: ...
