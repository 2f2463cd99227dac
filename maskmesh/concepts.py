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
