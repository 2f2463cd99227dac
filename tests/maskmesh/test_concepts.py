"""Concepts as values and messages."""

from typing import Any

import pytest

from maskmesh import Box, Concept, ConceptInstance, ConceptInstances, Exemplar, RleMask, wire


def test_plain_values_are_converted() -> None:
    last = Exemplar(Box(0, 0, 1, 1), False)
    concept = Concept.of("bus", [(1, 2, 3, 4), (5, 6, 7, 8, 0), Box(1, 1, 2, 2), last])
    assert concept.exemplars == (
        Exemplar(Box(1, 2, 3, 4)),
        Exemplar(Box(5, 6, 7, 8), False),
        Exemplar(Box(1, 1, 2, 2)),
        last,
    )


@pytest.mark.parametrize("value", [(1, 2, 3), (1, 2, 3, 4, 5), "1234", None, (1, 2, 3, "x")])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="an exemplar is x0, y0, x1, y1"):
        Concept("bus", [value])


def test_concepts_survive_the_wire() -> None:
    concept = Concept.of("red cup", [(1, 2, 30, 40), (5, 6, 7, 8, 0)])
    [received] = wire.concepts_from_proto([wire.concept_to_proto(concept)], width=64, height=48)
    assert received == concept


def test_instances_survive_the_wire() -> None:
    instances = [
        ConceptInstance(0.75, Box(1, 2, 3, 4), RleMask(2, 2, b"04")),
        ConceptInstance(0.5, Box(1, 2, 3, 4), None),
    ]
    found = ConceptInstances(0.875, instances)
    assert wire.concept_instances_from_proto(wire.concept_instances_to_proto(found)) == found
