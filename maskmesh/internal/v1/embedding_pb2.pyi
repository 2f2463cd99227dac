from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    D_TYPE_UNSPECIFIED: _ClassVar[DType]
    D_TYPE_FLOAT32: _ClassVar[DType]
    D_TYPE_BFLOAT16: _ClassVar[DType]
    D_TYPE_FLOAT16: _ClassVar[DType]

class ModelFamily(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_FAMILY_UNSPECIFIED: _ClassVar[ModelFamily]
    MODEL_FAMILY_SEGMENTATION: _ClassVar[ModelFamily]
    MODEL_FAMILY_POINTS: _ClassVar[ModelFamily]
D_TYPE_UNSPECIFIED: DType
D_TYPE_FLOAT32: DType
D_TYPE_BFLOAT16: DType
D_TYPE_FLOAT16: DType
MODEL_FAMILY_UNSPECIFIED: ModelFamily
MODEL_FAMILY_SEGMENTATION: ModelFamily
MODEL_FAMILY_POINTS: ModelFamily

class TensorSpec(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class SharedBlock(_message.Message):
    __slots__ = ("number", "generation", "folder")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    number: int
    generation: int
    folder: str
    def __init__(self, number: _Optional[int] = ..., generation: _Optional[int] = ..., folder: _Optional[str] = ...) -> None: ...

class EmbeddingRef(_message.Message):
    __slots__ = ("key", "model_id", "address", "num_bytes", "image_width", "image_height", "tenant", "shared_block")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NUM_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SHARED_BLOCK_FIELD_NUMBER: _ClassVar[int]
    key: str
    model_id: str
    address: str
    num_bytes: int
    image_width: int
    image_height: int
    tenant: str
    shared_block: SharedBlock
    def __init__(self, key: _Optional[str] = ..., model_id: _Optional[str] = ..., address: _Optional[str] = ..., num_bytes: _Optional[int] = ..., image_width: _Optional[int] = ..., image_height: _Optional[int] = ..., tenant: _Optional[str] = ..., shared_block: _Optional[_Union[SharedBlock, _Mapping]] = ...) -> None: ...

class Handling(_message.Message):
    __slots__ = ("received_unix_nanos", "sent_unix_nanos", "host", "clock_offset_nanos")
    RECEIVED_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    SENT_UNIX_NANOS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_NANOS_FIELD_NUMBER: _ClassVar[int]
    received_unix_nanos: int
    sent_unix_nanos: int
    host: str
    clock_offset_nanos: int
    def __init__(self, received_unix_nanos: _Optional[int] = ..., sent_unix_nanos: _Optional[int] = ..., host: _Optional[str] = ..., clock_offset_nanos: _Optional[int] = ...) -> None: ...

class WorkSummary(_message.Message):
    __slots__ = ("times", "batch_sizes", "cold")
    class BatchSizesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TIMES_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZES_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    times: _containers.RepeatedCompositeFieldContainer[_types_pb2.StageTime]
    batch_sizes: _containers.ScalarMap[str, int]
    cold: bool
    def __init__(self, times: _Optional[_Iterable[_Union[_types_pb2.StageTime, _Mapping]]] = ..., batch_sizes: _Optional[_Mapping[str, int]] = ..., cold: _Optional[bool] = ...) -> None: ...
