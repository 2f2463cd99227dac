import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PointLabel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POINT_LABEL_UNSPECIFIED: _ClassVar[PointLabel]
    POINT_LABEL_NEGATIVE: _ClassVar[PointLabel]
    POINT_LABEL_POSITIVE: _ClassVar[PointLabel]

class MaskFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_FORMAT_UNSPECIFIED: _ClassVar[MaskFormat]
    MASK_FORMAT_COCO_RLE: _ClassVar[MaskFormat]
    MASK_FORMAT_LOW_RES_LOGITS: _ClassVar[MaskFormat]
    MASK_FORMAT_PNG: _ClassVar[MaskFormat]
    MASK_FORMAT_PACKED_BITS: _ClassVar[MaskFormat]
    MASK_FORMAT_POLYGONS: _ClassVar[MaskFormat]

class MaskSpace(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_SPACE_UNSPECIFIED: _ClassVar[MaskSpace]
    MASK_SPACE_IMAGE: _ClassVar[MaskSpace]
    MASK_SPACE_MODEL: _ClassVar[MaskSpace]
POINT_LABEL_UNSPECIFIED: PointLabel
POINT_LABEL_NEGATIVE: PointLabel
POINT_LABEL_POSITIVE: PointLabel
MASK_FORMAT_UNSPECIFIED: MaskFormat
MASK_FORMAT_COCO_RLE: MaskFormat
MASK_FORMAT_LOW_RES_LOGITS: MaskFormat
MASK_FORMAT_PNG: MaskFormat
MASK_FORMAT_PACKED_BITS: MaskFormat
MASK_FORMAT_POLYGONS: MaskFormat
MASK_SPACE_UNSPECIFIED: MaskSpace
MASK_SPACE_IMAGE: MaskSpace
MASK_SPACE_MODEL: MaskSpace

class Point(_message.Message):
    __slots__ = ("x", "y", "label")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    x: float
    y: float
    label: PointLabel
    def __init__(self, x: _Optional[float] = ..., y: _Optional[float] = ..., label: _Optional[_Union[PointLabel, str]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x0", "y0", "x1", "y1")
    X0_FIELD_NUMBER: _ClassVar[int]
    Y0_FIELD_NUMBER: _ClassVar[int]
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    x0: float
    y0: float
    x1: float
    y1: float
    def __init__(self, x0: _Optional[float] = ..., y0: _Optional[float] = ..., x1: _Optional[float] = ..., y1: _Optional[float] = ...) -> None: ...

class RleMask(_message.Message):
    __slots__ = ("height", "width", "counts")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    counts: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., counts: _Optional[bytes] = ...) -> None: ...

class LowResLogits(_message.Message):
    __slots__ = ("height", "width", "values")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    values: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class PngMask(_message.Message):
    __slots__ = ("height", "width", "data")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    data: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PackedMask(_message.Message):
    __slots__ = ("height", "width", "bits")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    bits: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., bits: _Optional[bytes] = ...) -> None: ...

class Ring(_message.Message):
    __slots__ = ("xy",)
    XY_FIELD_NUMBER: _ClassVar[int]
    xy: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, xy: _Optional[_Iterable[float]] = ...) -> None: ...

class Polygon(_message.Message):
    __slots__ = ("rings",)
    RINGS_FIELD_NUMBER: _ClassVar[int]
    rings: _containers.RepeatedCompositeFieldContainer[Ring]
    def __init__(self, rings: _Optional[_Iterable[_Union[Ring, _Mapping]]] = ...) -> None: ...

class PolygonMask(_message.Message):
    __slots__ = ("height", "width", "polygons")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    polygons: _containers.RepeatedCompositeFieldContainer[Polygon]
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., polygons: _Optional[_Iterable[_Union[Polygon, _Mapping]]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("rle", "low_res_logits", "png", "packed_bits", "polygons")
    RLE_FIELD_NUMBER: _ClassVar[int]
    LOW_RES_LOGITS_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    PACKED_BITS_FIELD_NUMBER: _ClassVar[int]
    POLYGONS_FIELD_NUMBER: _ClassVar[int]
    rle: RleMask
    low_res_logits: LowResLogits
    png: PngMask
    packed_bits: PackedMask
    polygons: PolygonMask
    def __init__(self, rle: _Optional[_Union[RleMask, _Mapping]] = ..., low_res_logits: _Optional[_Union[LowResLogits, _Mapping]] = ..., png: _Optional[_Union[PngMask, _Mapping]] = ..., packed_bits: _Optional[_Union[PackedMask, _Mapping]] = ..., polygons: _Optional[_Union[PolygonMask, _Mapping]] = ...) -> None: ...

class MaskOptions(_message.Message):
    __slots__ = ("format", "space", "non_overlapping", "fill_holes_area", "remove_specks_area", "polygon_tolerance")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    NON_OVERLAPPING_FIELD_NUMBER: _ClassVar[int]
    FILL_HOLES_AREA_FIELD_NUMBER: _ClassVar[int]
    REMOVE_SPECKS_AREA_FIELD_NUMBER: _ClassVar[int]
    POLYGON_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    format: MaskFormat
    space: MaskSpace
    non_overlapping: bool
    fill_holes_area: int
    remove_specks_area: int
    polygon_tolerance: float
    def __init__(self, format: _Optional[_Union[MaskFormat, str]] = ..., space: _Optional[_Union[MaskSpace, str]] = ..., non_overlapping: _Optional[bool] = ..., fill_holes_area: _Optional[int] = ..., remove_specks_area: _Optional[int] = ..., polygon_tolerance: _Optional[float] = ...) -> None: ...

class Prompt(_message.Message):
    __slots__ = ("points", "box", "mask")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[Point]
    box: Box
    mask: Mask
    def __init__(self, points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class Exemplar(_message.Message):
    __slots__ = ("box", "negative")
    BOX_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_FIELD_NUMBER: _ClassVar[int]
    box: Box
    negative: bool
    def __init__(self, box: _Optional[_Union[Box, _Mapping]] = ..., negative: _Optional[bool] = ...) -> None: ...

class Concept(_message.Message):
    __slots__ = ("phrase", "exemplars")
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    EXEMPLARS_FIELD_NUMBER: _ClassVar[int]
    phrase: str
    exemplars: _containers.RepeatedCompositeFieldContainer[Exemplar]
    def __init__(self, phrase: _Optional[str] = ..., exemplars: _Optional[_Iterable[_Union[Exemplar, _Mapping]]] = ...) -> None: ...

class ConceptOptions(_message.Message):
    __slots__ = ("score_threshold", "new_score_threshold", "detect_every", "hotstart_delay", "max_objects")
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    NEW_SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DETECT_EVERY_FIELD_NUMBER: _ClassVar[int]
    HOTSTART_DELAY_FIELD_NUMBER: _ClassVar[int]
    MAX_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    score_threshold: float
    new_score_threshold: float
    detect_every: int
    hotstart_delay: int
    max_objects: int
    def __init__(self, score_threshold: _Optional[float] = ..., new_score_threshold: _Optional[float] = ..., detect_every: _Optional[int] = ..., hotstart_delay: _Optional[int] = ..., max_objects: _Optional[int] = ...) -> None: ...

class ConceptInstance(_message.Message):
    __slots__ = ("score", "box", "mask")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    score: float
    box: Box
    mask: Mask
    def __init__(self, score: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class ConceptInstances(_message.Message):
    __slots__ = ("presence", "instances")
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    presence: float
    instances: _containers.RepeatedCompositeFieldContainer[ConceptInstance]
    def __init__(self, presence: _Optional[float] = ..., instances: _Optional[_Iterable[_Union[ConceptInstance, _Mapping]]] = ...) -> None: ...

class EverythingOptions(_message.Message):
    __slots__ = ("points_per_side", "min_predicted_iou", "min_stability", "max_box_iou", "crop_layers", "min_area", "max_masks")
    POINTS_PER_SIDE_FIELD_NUMBER: _ClassVar[int]
    MIN_PREDICTED_IOU_FIELD_NUMBER: _ClassVar[int]
    MIN_STABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_BOX_IOU_FIELD_NUMBER: _ClassVar[int]
    CROP_LAYERS_FIELD_NUMBER: _ClassVar[int]
    MIN_AREA_FIELD_NUMBER: _ClassVar[int]
    MAX_MASKS_FIELD_NUMBER: _ClassVar[int]
    points_per_side: int
    min_predicted_iou: float
    min_stability: float
    max_box_iou: float
    crop_layers: int
    min_area: int
    max_masks: int
    def __init__(self, points_per_side: _Optional[int] = ..., min_predicted_iou: _Optional[float] = ..., min_stability: _Optional[float] = ..., max_box_iou: _Optional[float] = ..., crop_layers: _Optional[int] = ..., min_area: _Optional[int] = ..., max_masks: _Optional[int] = ...) -> None: ...

class FoundMask(_message.Message):
    __slots__ = ("mask", "box", "predicted_iou", "stability", "x", "y", "area")
    MASK_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_IOU_FIELD_NUMBER: _ClassVar[int]
    STABILITY_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    mask: Mask
    box: Box
    predicted_iou: float
    stability: float
    x: float
    y: float
    area: int
    def __init__(self, mask: _Optional[_Union[Mask, _Mapping]] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., predicted_iou: _Optional[float] = ..., stability: _Optional[float] = ..., x: _Optional[float] = ..., y: _Optional[float] = ..., area: _Optional[int] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("width", "height", "rgb")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    rgb: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., rgb: _Optional[bytes] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("encoded", "raw")
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    encoded: bytes
    raw: RawImage
    def __init__(self, encoded: _Optional[bytes] = ..., raw: _Optional[_Union[RawImage, _Mapping]] = ...) -> None: ...

class ObjectMask(_message.Message):
    __slots__ = ("obj_id", "mask", "predicted_iou", "object_score_logit", "box", "concept_id", "concept_score")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_IOU_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SCORE_LOGIT_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_SCORE_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    mask: Mask
    predicted_iou: float
    object_score_logit: float
    box: Box
    concept_id: int
    concept_score: float
    def __init__(self, obj_id: _Optional[int] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ..., predicted_iou: _Optional[float] = ..., object_score_logit: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., concept_id: _Optional[int] = ..., concept_score: _Optional[float] = ...) -> None: ...

class StageTime(_message.Message):
    __slots__ = ("stage", "duration")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    stage: str
    duration: _duration_pb2.Duration
    def __init__(self, stage: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FrameMasks(_message.Message):
    __slots__ = ("frame_index", "objects", "trace_id", "conditioning", "width", "height", "stage_times", "time", "repeats_previous", "new_obj_ids", "gone_obj_ids", "held_back_obj_ids")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    STAGE_TIMES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    REPEATS_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    NEW_OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    GONE_OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    HELD_BACK_OBJ_IDS_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    objects: _containers.RepeatedCompositeFieldContainer[ObjectMask]
    trace_id: str
    conditioning: bool
    width: int
    height: int
    stage_times: _containers.RepeatedCompositeFieldContainer[StageTime]
    time: _duration_pb2.Duration
    repeats_previous: bool
    new_obj_ids: _containers.RepeatedScalarFieldContainer[int]
    gone_obj_ids: _containers.RepeatedScalarFieldContainer[int]
    held_back_obj_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, frame_index: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[ObjectMask, _Mapping]]] = ..., trace_id: _Optional[str] = ..., conditioning: _Optional[bool] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., stage_times: _Optional[_Iterable[_Union[StageTime, _Mapping]]] = ..., time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., repeats_previous: _Optional[bool] = ..., new_obj_ids: _Optional[_Iterable[int]] = ..., gone_obj_ids: _Optional[_Iterable[int]] = ..., held_back_obj_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("model_id", "name", "image_size", "trained", "parameters", "device", "dtype", "threads", "warm_up_seconds")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    WARM_UP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    name: str
    image_size: int
    trained: bool
    parameters: int
    device: str
    dtype: str
    threads: int
    warm_up_seconds: float
    def __init__(self, model_id: _Optional[str] = ..., name: _Optional[str] = ..., image_size: _Optional[int] = ..., trained: _Optional[bool] = ..., parameters: _Optional[int] = ..., device: _Optional[str] = ..., dtype: _Optional[str] = ..., threads: _Optional[int] = ..., warm_up_seconds: _Optional[float] = ...) -> None: ...
