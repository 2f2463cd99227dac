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

class ServiceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVICE_KIND_UNSPECIFIED: _ClassVar[ServiceKind]
    SERVICE_KIND_GATEWAY: _ClassVar[ServiceKind]
    SERVICE_KIND_ENCODER: _ClassVar[ServiceKind]
    SERVICE_KIND_TRACKER: _ClassVar[ServiceKind]
SERVICE_KIND_UNSPECIFIED: ServiceKind
SERVICE_KIND_GATEWAY: ServiceKind
SERVICE_KIND_ENCODER: ServiceKind
SERVICE_KIND_TRACKER: ServiceKind

class ProcessUsage(_message.Message):
    __slots__ = ("resident_bytes", "peak_resident_bytes", "cpu_time", "uptime", "granted_cores", "visible_cores", "memory_limit_bytes", "cpu_name")
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_TIME_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    GRANTED_CORES_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_NAME_FIELD_NUMBER: _ClassVar[int]
    resident_bytes: int
    peak_resident_bytes: int
    cpu_time: _duration_pb2.Duration
    uptime: _duration_pb2.Duration
    granted_cores: int
    visible_cores: int
    memory_limit_bytes: int
    cpu_name: str
    def __init__(self, resident_bytes: _Optional[int] = ..., peak_resident_bytes: _Optional[int] = ..., cpu_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., granted_cores: _Optional[int] = ..., visible_cores: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., cpu_name: _Optional[str] = ...) -> None: ...

class DeviceMemory(_message.Message):
    __slots__ = ("allocated_bytes", "peak_allocated_bytes", "reserved_bytes", "total_bytes")
    ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    allocated_bytes: int
    peak_allocated_bytes: int
    reserved_bytes: int
    total_bytes: int
    def __init__(self, allocated_bytes: _Optional[int] = ..., peak_allocated_bytes: _Optional[int] = ..., reserved_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class QueueStatus(_message.Message):
    __slots__ = ("name", "depth")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    name: str
    depth: int
    def __init__(self, name: _Optional[str] = ..., depth: _Optional[int] = ...) -> None: ...

class CacheStatus(_message.Message):
    __slots__ = ("hits", "misses", "joined", "evictions", "entries", "used_bytes", "pinned_bytes", "budget_bytes", "shared_hits")
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    PINNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARED_HITS_FIELD_NUMBER: _ClassVar[int]
    hits: int
    misses: int
    joined: int
    evictions: int
    entries: int
    used_bytes: int
    pinned_bytes: int
    budget_bytes: int
    shared_hits: int
    def __init__(self, hits: _Optional[int] = ..., misses: _Optional[int] = ..., joined: _Optional[int] = ..., evictions: _Optional[int] = ..., entries: _Optional[int] = ..., used_bytes: _Optional[int] = ..., pinned_bytes: _Optional[int] = ..., budget_bytes: _Optional[int] = ..., shared_hits: _Optional[int] = ...) -> None: ...

class SessionCounts(_message.Message):
    __slots__ = ("open", "propagating", "limit")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PROPAGATING_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    open: int
    propagating: int
    limit: int
    def __init__(self, open: _Optional[int] = ..., propagating: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ServiceStatus(_message.Message):
    __slots__ = ("kind", "address", "error", "version", "host", "model", "usage", "device_memory", "queues", "cache", "sessions", "draining", "response_time", "clock_offset", "unix_nanos")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MEMORY_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_FIELD_NUMBER: _ClassVar[int]
    UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    kind: ServiceKind
    address: str
    error: str
    version: str
    host: str
    model: _types_pb2.ModelInfo
    usage: ProcessUsage
    device_memory: DeviceMemory
    queues: _containers.RepeatedCompositeFieldContainer[QueueStatus]
    cache: CacheStatus
    sessions: SessionCounts
    draining: bool
    response_time: _duration_pb2.Duration
    clock_offset: _duration_pb2.Duration
    unix_nanos: int
    def __init__(self, kind: _Optional[_Union[ServiceKind, str]] = ..., address: _Optional[str] = ..., error: _Optional[str] = ..., version: _Optional[str] = ..., host: _Optional[str] = ..., model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ..., usage: _Optional[_Union[ProcessUsage, _Mapping]] = ..., device_memory: _Optional[_Union[DeviceMemory, _Mapping]] = ..., queues: _Optional[_Iterable[_Union[QueueStatus, _Mapping]]] = ..., cache: _Optional[_Union[CacheStatus, _Mapping]] = ..., sessions: _Optional[_Union[SessionCounts, _Mapping]] = ..., draining: _Optional[bool] = ..., response_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., clock_offset: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., unix_nanos: _Optional[int] = ...) -> None: ...
