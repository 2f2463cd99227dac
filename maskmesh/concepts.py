"""Concepts and their instances, as values."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskmesh.masks import BinaryMask, LowResLogits
from maskmesh.types import Box


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A box around an example of a concept, or around what does not belong to it."""

    box: Box
    positive: bool = True


@dataclass(frozen=True, slots=True)
class Concept:
    """All objects of a kind, named by words, by example, or both.

    ``phrase`` is a short noun phrase in English.  ``exemplars`` are boxes on the same image; plain values are
    converted: (x0, y0, x1, y1), or (x0, y0, x1, y1, label) with label 1 for an example and 0 for a
    counterexample.  Raises ValueError for an exemplar of another form.
    """

    phrase: str = ""
    exemplars: Sequence[Exemplar] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "exemplars", tuple(_exemplar(value) for value in self.exemplars))

    @classmethod
    def of(cls, phrase: str = "", exemplars: "Sequence[Exemplar | Box | Sequence[float]]" = ()) -> "Concept":
        """A concept from plain values, typed as such."""
        return cls(phrase, exemplars)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptOptions:
    """How the objects of a concept are found and followed; the defaults are the published ones of SAM 3."""

    score_threshold: float = 0.5
    """The score above which a detection counts, 0 to 1."""
    new_score_threshold: float = 0.7
    """The score from which on a detection becomes an object while the concept has other objects."""
    detect_every: int = 1
    """Number of frames from one detection to the next."""
    hotstart_delay: int | None = None
    """Number of frames during which a new object may be found to be false and leave; propagations deliver
    their results as many frames later, without such objects.  None is 15 in a video, and 0, which keeps all
    objects, in a live stream."""
    max_objects: int = 0
    """Maximum number of objects; 0 is no limit beside that of the session."""


DEFAULT_OPTIONS = ConceptOptions()


# The numbers of found objects: each concept has a block, so that a repeated history gives them again without
# other concepts.  The first block is beyond what people and programs number by hand.
FIRST_OBJ_ID = 1_000_001
OBJ_IDS_PER_CONCEPT = 1_000_000
MAX_FIRST_OBJ_IDS = 999


@dataclass(frozen=True, slots=True)
class SessionConcept:
    """One concept of a session, and the frame on which it was added; None for the frames to come."""

    concept_id: int
    concept: Concept
    frame_index: int | None
    options: ConceptOptions
    first_obj_id: int = 0
    """The number of its first object; 0 lets the server choose."""


@dataclass(frozen=True, slots=True)
class ConceptInstance:
    """One object of a concept on an image."""

    score: float
    """The probability that the object is an instance of the concept."""
    box: Box
    """In pixels of the image."""
    mask: BinaryMask | LowResLogits | None
    """None if masks were omitted."""


@dataclass(frozen=True, slots=True)
class ConceptInstances:
    """The objects of one concept, the highest score first."""

    presence: float
    """The probability that the image shows the concept at all; it is part of every score."""
    instances: Sequence[ConceptInstance]


@dataclass(frozen=True, slots=True)
class ImageConcepts:
    """The objects of several concepts on one image, in the order of the request."""

    concepts: Sequence[ConceptInstances]
    width: int
    height: int
    trace_id: str = ""


def as_concept(concept: Concept | str) -> Concept:
    """A concept from a phrase or a concept."""
    return Concept(concept) if isinstance(concept, str) else concept


def _exemplar(value: Exemplar | Box | Sequence[float]) -> Exemplar:
    if isinstance(value, Exemplar):
        return value
    if isinstance(value, Box):
        return Exemplar(value)
    try:
        if not isinstance(value, str) and (len(value) == 4 or (len(value) == 5 and value[4] in (0, 1))):
            box = Box(*(float(number) for number in value[:4]))
            return Exemplar(box, len(value) == 4 or bool(value[4]))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"an exemplar is x0, y0, x1, y1 and a label of 0 or 1, got {value!r}")
