import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from maskmesh.internal.v1 import embedding_pb2 as _embedding_pb2
from maskmesh.v1 import status_pb2 as _status_pb2
from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EncodePriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODE_PRIORITY_UNSPECIFIED: _ClassVar[EncodePriority]
    ENCODE_PRIORITY_AHEAD: _ClassVar[EncodePriority]
    ENCODE_PRIORITY_INTERACTIVE: _ClassVar[EncodePriority]

class CacheOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CACHE_OUTCOME_UNSPECIFIED: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_HIT: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_MISS: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_JOINED: _ClassVar[CacheOutcome]
    CACHE_OUTCOME_SHARED_HIT: _ClassVar[CacheOutcome]
ENCODE_PRIORITY_UNSPECIFIED: EncodePriority
ENCODE_PRIORITY_AHEAD: EncodePriority
ENCODE_PRIORITY_INTERACTIVE: EncodePriority
CACHE_OUTCOME_UNSPECIFIED: CacheOutcome
CACHE_OUTCOME_HIT: CacheOutcome
CACHE_OUTCOME_MISS: CacheOutcome
CACHE_OUTCOME_JOINED: CacheOutcome
CACHE_OUTCOME_SHARED_HIT: CacheOutcome

class Pin(_message.Message):
    __slots__ = ("owner", "ttl")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    owner: str
    ttl: _duration_pb2.Duration
    def __init__(self, owner: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("key", "image", "priority", "pin", "tenant", "family")
    KEY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    key: str
    image: _types_pb2.Image
    priority: EncodePriority
    pin: Pin
    tenant: str
    family: _embedding_pb2.ModelFamily
    def __init__(self, key: _Optional[str] = ..., image: _Optional[_Union[_types_pb2.Image, _Mapping]] = ..., priority: _Optional[_Union[EncodePriority, str]] = ..., pin: _Optional[_Union[Pin, _Mapping]] = ..., tenant: _Optional[str] = ..., family: _Optional[_Union[_embedding_pb2.ModelFamily, str]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("ref", "cache_outcome", "stage_times", "work", "filled_by")
    REF_FIELD_NUMBER: _ClassVar[int]
    CACHE_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    FILLED_BY_FIELD_NUMBER: _ClassVar[int]
    ref: _embedding_pb2.EmbeddingRef
    cache_outcome: CacheOutcome
    stage_times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    work: _embedding_pb2.WorkSummary
    filled_by: str
    def __init__(self, ref: _Optional[_Union[_embedding_pb2.EmbeddingRef, _Mapping]] = ..., cache_outcome: _Optional[_Union[CacheOutcome, str]] = ..., stage_times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., work: _Optional[_Union[_embedding_pb2.WorkSummary, _Mapping]] = ..., filled_by: _Optional[str] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("key", "model_id", "tenant", "shared_memory_nonce")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_NONCE_FIELD_NUMBER: _ClassVar[int]
    key: str
    model_id: str
    tenant: str
    shared_memory_nonce: bytes
    def __init__(self, key: _Optional[str] = ..., model_id: _Optional[str] = ..., tenant: _Optional[str] = ..., shared_memory_nonce: _Optional[bytes] = ...) -> None: ...

class FetchHeader(_message.Message):
    __slots__ = ("tensors", "num_bytes", "shared_memory", "shared_block")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    SHARED_BLOCK_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedCompositeFieldContainer[_embedding_pb2.TensorSpec]
    num_bytes: int
    shared_memory: str
    shared_block: _embedding_pb2.SharedBlock
    def __init__(self, tensors: _Optional[_Iterable[_Union[_embedding_pb2.TensorSpec, _Mapping]]] = ..., num_bytes: _Optional[int] = ..., shared_memory: _Optional[str] = ..., shared_block: _Optional[_Union[_embedding_pb2.SharedBlock, _Mapping]] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: FetchHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[FetchHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class CachedEmbedding(_message.Message):
    __slots__ = ("tensors", "image_width", "image_height")
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedCompositeFieldContainer[_embedding_pb2.TensorSpec]
    image_width: int
    image_height: int
    def __init__(self, tensors: _Optional[_Iterable[_Union[_embedding_pb2.TensorSpec, _Mapping]]] = ..., image_width: _Optional[int] = ..., image_height: _Optional[int] = ...) -> None: ...

class UnpinRequest(_message.Message):
    __slots__ = ("owner", "keys", "tenant")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    owner: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    tenant: str
    def __init__(self, owner: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., tenant: _Optional[str] = ...) -> None: ...

class UnpinResponse(_message.Message):
    __slots__ = ("released",)
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    released: int
    def __init__(self, released: _Optional[int] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("family",)
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    family: _embedding_pb2.ModelFamily
    def __init__(self, family: _Optional[_Union[_embedding_pb2.ModelFamily, str]] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _types_pb2.ModelInfo
    def __init__(self, model: _Optional[_Union[_types_pb2.ModelInfo, _Mapping]] = ...) -> None: ...

class GetCacheStatisticsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCacheStatisticsResponse(_message.Message):
    __slots__ = ("hits", "misses", "joined", "evictions", "entries", "num_bytes", "pinned_bytes", "budget_bytes", "shared_hits", "shared_failures")
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    PINNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARED_HITS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FAILURES_FIELD_NUMBER: _ClassVar[int]
    hits: int
    misses: int
    joined: int
    evictions: int
    entries: int
    num_bytes: int
    pinned_bytes: int
    budget_bytes: int
    shared_hits: int
    shared_failures: int
    def __init__(self, hits: _Optional[int] = ..., misses: _Optional[int] = ..., joined: _Optional[int] = ..., evictions: _Optional[int] = ..., entries: _Optional[int] = ..., num_bytes: _Optional[int] = ..., pinned_bytes: _Optional[int] = ..., budget_bytes: _Optional[int] = ..., shared_hits: _Optional[int] = ..., shared_failures: _Optional[int] = ...) -> None: ...

class GetEncoderStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetEncoderStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.ServiceStatus
    def __init__(self, status: _Optional[_Union[_status_pb2.ServiceStatus, _Mapping]] = ...) -> None: ...
