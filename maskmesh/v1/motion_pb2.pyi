import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MotionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOTION_STATUS_UNSPECIFIED: _ClassVar[MotionStatus]
    MOTION_STATUS_MOVING: _ClassVar[MotionStatus]
    MOTION_STATUS_STILL: _ClassVar[MotionStatus]
    MOTION_STATUS_UNMOVED: _ClassVar[MotionStatus]
    MOTION_STATUS_OTHER_POINTS: _ClassVar[MotionStatus]

class BoundaryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BOUNDARY_KIND_UNSPECIFIED: _ClassVar[BoundaryKind]
    BOUNDARY_KIND_START: _ClassVar[BoundaryKind]
    BOUNDARY_KIND_END: _ClassVar[BoundaryKind]
MOTION_STATUS_UNSPECIFIED: MotionStatus
MOTION_STATUS_MOVING: MotionStatus
MOTION_STATUS_STILL: MotionStatus
MOTION_STATUS_UNMOVED: MotionStatus
MOTION_STATUS_OTHER_POINTS: MotionStatus
BOUNDARY_KIND_UNSPECIFIED: BoundaryKind
BOUNDARY_KIND_START: BoundaryKind
BOUNDARY_KIND_END: BoundaryKind

class MotionOptions(_message.Message):
    __slots__ = ("window_length", "window_stride", "frames_per_second", "velocity_scale", "still_gate", "motion_gate", "tokens", "energy_threshold")
    WINDOW_LENGTH_FIELD_NUMBER: _ClassVar[int]
    WINDOW_STRIDE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    VELOCITY_SCALE_FIELD_NUMBER: _ClassVar[int]
    STILL_GATE_FIELD_NUMBER: _ClassVar[int]
    MOTION_GATE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    window_length: int
    window_stride: int
    frames_per_second: float
    velocity_scale: float
    still_gate: MotionThreshold
    motion_gate: MotionThreshold
    tokens: bool
    energy_threshold: float
    def __init__(self, window_length: _Optional[int] = ..., window_stride: _Optional[int] = ..., frames_per_second: _Optional[float] = ..., velocity_scale: _Optional[float] = ..., still_gate: _Optional[_Union[MotionThreshold, _Mapping]] = ..., motion_gate: _Optional[_Union[MotionThreshold, _Mapping]] = ..., tokens: _Optional[bool] = ..., energy_threshold: _Optional[float] = ...) -> None: ...

class MotionThreshold(_message.Message):
    __slots__ = ("mean", "active")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    mean: float
    active: float
    def __init__(self, mean: _Optional[float] = ..., active: _Optional[float] = ...) -> None: ...

class MotionBoundary(_message.Message):
    __slots__ = ("kind", "frame_index", "time", "code")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    kind: BoundaryKind
    frame_index: int
    time: _duration_pb2.Duration
    code: int
    def __init__(self, kind: _Optional[_Union[BoundaryKind, str]] = ..., frame_index: _Optional[int] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., code: _Optional[int] = ...) -> None: ...

class MotionWindow(_message.Message):
    __slots__ = ("window", "first_frame_index", "last_frame_index", "status", "points", "mean_velocity", "energy", "codes", "boundaries")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_VELOCITY_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    window: int
    first_frame_index: int
    last_frame_index: int
    status: MotionStatus
    points: int
    mean_velocity: float
    energy: float
    codes: _containers.RepeatedScalarFieldContainer[int]
    boundaries: _containers.RepeatedCompositeFieldContainer[MotionBoundary]
    def __init__(self, window: _Optional[int] = ..., first_frame_index: _Optional[int] = ..., last_frame_index: _Optional[int] = ..., status: _Optional[_Union[MotionStatus, str]] = ..., points: _Optional[int] = ..., mean_velocity: _Optional[float] = ..., energy: _Optional[float] = ..., codes: _Optional[_Iterable[int]] = ..., boundaries: _Optional[_Iterable[_Union[MotionBoundary, _Mapping]]] = ...) -> None: ...
