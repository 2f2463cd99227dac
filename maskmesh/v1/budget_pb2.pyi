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

class BudgetStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUDGET_STATUS_UNSPECIFIED: _ClassVar[BudgetStatus]
    BUDGET_STATUS_OK: _ClassVar[BudgetStatus]
    BUDGET_STATUS_LAG: _ClassVar[BudgetStatus]
BUDGET_STATUS_UNSPECIFIED: BudgetStatus
BUDGET_STATUS_OK: BudgetStatus
BUDGET_STATUS_LAG: BudgetStatus

class Budget(_message.Message):
    __slots__ = ("frames_per_second", "per_window", "window_length", "window_stride")
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PER_WINDOW_FIELD_NUMBER: _ClassVar[int]
    WINDOW_LENGTH_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STRIDE_FIELD_NUMBER: _ClassVar[int]
    frames_per_second: float
    per_window: _duration_pb2.Duration
    window_length: int
    window_stride: int
    def __init__(self, frames_per_second: _Optional[float] = ..., per_window: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., window_length: _Optional[int] = ..., window_stride: _Optional[int] = ...) -> None: ...

class MotionGate(_message.Message):
    __slots__ = ("threshold",)
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    threshold: float
    def __init__(self, threshold: _Optional[float] = ...) -> None: ...

class WindowRecord(_message.Message):
    __slots__ = ("window", "first_sequence", "last_sequence", "new_frames", "total", "budget", "slack", "status", "latency", "stage_times", "gated_frames", "time")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEW_FRAMES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    SLACK_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    GATED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    window: int
    first_sequence: int
    last_sequence: int
    new_frames: int
    total: _duration_pb2.Duration
    budget: _duration_pb2.Duration
    slack: _duration_pb2.Duration
    status: BudgetStatus
    latency: _duration_pb2.Duration
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    gated_frames: int
    time: _duration_pb2.Duration
    def __init__(self, window: _Optional[int] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., new_frames: _Optional[int] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., budget: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., slack: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., status: _Optional[_Union[BudgetStatus, str]] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., gated_frames: _Optional[int] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TimeStatistics(_message.Message):
    __slots__ = ("name", "mean", "p50", "p95", "max")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P95_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    name: str
    mean: _duration_pb2.Duration
    p50: _duration_pb2.Duration
    p95: _duration_pb2.Duration
    max: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., mean: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., p95: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StreamSummary(_message.Message):
    __slots__ = ("received_frames", "delivered_frames", "skipped_frames", "rejected_frames", "gated_frames", "gate_threshold", "windows", "ok_windows", "frames_per_second", "windows_per_second", "first", "times", "dropped_motion_windows")
    RECEIVED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    GATED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    GATE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    OK_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_MOTION_WINDOWS_FIELD_NUMBER: _ClassVar[int]
    received_frames: int
    delivered_frames: int
    skipped_frames: int
    rejected_frames: int
    gated_frames: int
    gate_threshold: float
    windows: int
    ok_windows: int
    frames_per_second: float
    windows_per_second: float
    first: WindowRecord
    times: _containers.RepeatedCompositeFieldContainer[TimeStatistics]
    dropped_motion_windows: int
    def __init__(self, received_frames: _Optional[int] = ..., delivered_frames: _Optional[int] = ..., skipped_frames: _Optional[int] = ..., rejected_frames: _Optional[int] = ..., gated_frames: _Optional[int] = ..., gate_threshold: _Optional[float] = ..., windows: _Optional[int] = ..., ok_windows: _Optional[int] = ..., frames_per_second: _Optional[float] = ..., windows_per_second: _Optional[float] = ..., first: _Optional[_Union[WindowRecord, _Mapping]] = ..., times: _Optional[_Iterable[_Union[TimeStatistics, _Mapping]]] = ..., dropped_motion_windows: _Optional[int] = ...) -> None: ...
