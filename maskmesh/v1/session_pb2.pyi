from maskmesh.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_FORWARD: _ClassVar[Direction]
    DIRECTION_REVERSE: _ClassVar[Direction]
DIRECTION_UNSPECIFIED: Direction
DIRECTION_FORWARD: Direction
DIRECTION_REVERSE: Direction

class FrameRange(_message.Message):
    __slots__ = ("first_frame_index", "last_frame_index", "direction")
    FIRST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    first_frame_index: int
    last_frame_index: int
    direction: Direction
    def __init__(self, first_frame_index: _Optional[int] = ..., last_frame_index: _Optional[int] = ..., direction: _Optional[_Union[Direction, str]] = ...) -> None: ...

class PromptRecord(_message.Message):
    __slots__ = ("frame_index", "obj_id", "prompt", "clear_previous")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    obj_id: int
    prompt: _types_pb2.Prompt
    clear_previous: bool
    def __init__(self, frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ..., prompt: _Optional[_Union[_types_pb2.Prompt, _Mapping]] = ..., clear_previous: _Optional[bool] = ...) -> None: ...

class ClearRecord(_message.Message):
    __slots__ = ("frame_index", "obj_id")
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    frame_index: int
    obj_id: int
    def __init__(self, frame_index: _Optional[int] = ..., obj_id: _Optional[int] = ...) -> None: ...

class ConceptRecord(_message.Message):
    __slots__ = ("concept_id", "concept", "frame_index", "options", "first_obj_id")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FIRST_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    concept: _types_pb2.Concept
    frame_index: int
    options: _types_pb2.ConceptOptions
    first_obj_id: int
    def __init__(self, concept_id: _Optional[int] = ..., concept: _Optional[_Union[_types_pb2.Concept, _Mapping]] = ..., frame_index: _Optional[int] = ..., options: _Optional[_Union[_types_pb2.ConceptOptions, _Mapping]] = ..., first_obj_id: _Optional[int] = ...) -> None: ...

class ConceptRemovalRecord(_message.Message):
    __slots__ = ("concept_id",)
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    def __init__(self, concept_id: _Optional[int] = ...) -> None: ...

class RemovalRecord(_message.Message):
    __slots__ = ("obj_id", "concept_id")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    concept_id: int
    def __init__(self, obj_id: _Optional[int] = ..., concept_id: _Optional[int] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("prompt", "cleared", "tracked", "concept", "concept_removed", "removed")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CLEARED_FIELD_NUMBER: _ClassVar[int]
    TRACKED_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_REMOVED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    prompt: PromptRecord
    cleared: ClearRecord
    tracked: FrameRange
    concept: ConceptRecord
    concept_removed: ConceptRemovalRecord
    removed: RemovalRecord
    def __init__(self, prompt: _Optional[_Union[PromptRecord, _Mapping]] = ..., cleared: _Optional[_Union[ClearRecord, _Mapping]] = ..., tracked: _Optional[_Union[FrameRange, _Mapping]] = ..., concept: _Optional[_Union[ConceptRecord, _Mapping]] = ..., concept_removed: _Optional[_Union[ConceptRemovalRecord, _Mapping]] = ..., removed: _Optional[_Union[RemovalRecord, _Mapping]] = ...) -> None: ...

class SessionObject(_message.Message):
    __slots__ = ("obj_id", "prompted_frames", "concept_id", "found")
    OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPTED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    obj_id: int
    prompted_frames: _containers.RepeatedScalarFieldContainer[int]
    concept_id: int
    found: bool
    def __init__(self, obj_id: _Optional[int] = ..., prompted_frames: _Optional[_Iterable[int]] = ..., concept_id: _Optional[int] = ..., found: _Optional[bool] = ...) -> None: ...

class SessionConcept(_message.Message):
    __slots__ = ("concept_id", "concept", "frame_index", "options", "first_obj_id")
    CONCEPT_ID_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    FRAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FIRST_OBJ_ID_FIELD_NUMBER: _ClassVar[int]
    concept_id: int
    concept: _types_pb2.Concept
    frame_index: int
    options: _types_pb2.ConceptOptions
    first_obj_id: int
    def __init__(self, concept_id: _Optional[int] = ..., concept: _Optional[_Union[_types_pb2.Concept, _Mapping]] = ..., frame_index: _Optional[int] = ..., options: _Optional[_Union[_types_pb2.ConceptOptions, _Mapping]] = ..., first_obj_id: _Optional[int] = ...) -> None: ...
