"""Invalid calls with concepts.  The mesh runs a SAM 2.1, so valid ones fail too."""

from collections.abc import Sequence
from typing import Any

from maskmesh import ConceptNotFound, Conflict, InvalidPrompt, InvalidRequest, MaskmeshError
from maskmesh.v1 import types_pb2
from tests.e2e.bad_inputs import BAD_IMAGES, BAD_OPTIONS, HEIGHT, NAN, WIDTH
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import LONG_KEY, V1, rejected, segment_concepts, unary

BUS = types_pb2.Concept(phrase="yellow school bus")


def exemplar(*corners: float, negative: bool = False) -> types_pb2.Exemplar:
    x0, y0, x1, y1 = corners
    return types_pb2.Exemplar(box=types_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1), negative=negative)


def by_example(*exemplars: types_pb2.Exemplar, phrase: str = "") -> types_pb2.Concept:
    return types_pb2.Concept(phrase=phrase, exemplars=exemplars)


GOOD = exemplar(1, 1, WIDTH - 1, HEIGHT - 1)

BAD_CONCEPTS: Sequence[tuple[str, types_pb2.Concept, str]] = (
    ("a concept of nothing", types_pb2.Concept(), ""),
    ("a blank phrase", types_pb2.Concept(phrase=" \n"), ""),
    ("a phrase of 2000 characters", types_pb2.Concept(phrase="x" * 2000), ".phrase"),
    ("33 exemplars", by_example(*[GOOD] * 33), ".exemplars"),
    (
        "a counterexample alone",
        by_example(exemplar(1, 1, 9, 9, negative=True)),
        ".exemplars",
    ),
    ("an exemplar without a box", by_example(types_pb2.Exemplar()), ".exemplars[0].box"),
    ("an exemplar outside the image", by_example(GOOD, exemplar(1, 1, WIDTH + 5, 9)), ".exemplars[1].box.x1"),
    ("an exemplar that is not a number", by_example(exemplar(NAN, 1, 9, 9)), ".exemplars[0].box.x0"),
    ("an empty exemplar", by_example(exemplar(9, 1, 9, 9), phrase="bus"), ".exemplars[0].box"),
)


def _case(what: str, error: type[MaskmeshError], field: str, **given: object) -> Case:
    return Case("SegmentConcepts", what, segment_concepts(**({"concepts": [BUS]} | given)), error, field)


def _added(what: str, error: type[MaskmeshError], field: str, **given: object) -> Case:
    """A case of AddConcept on the first frame of a session."""
    request = {"concept": BUS, "frame_index": 0} | given
    return Case("AddConcept", what, unary("AddConcept", V1.AddConceptRequest, **request), error, field)


def _in_stream(what: str, error: type[MaskmeshError], field: str, **given: Any) -> Case:
    """A case of a concept in a live stream."""
    message: dict[str, Any] = {"request_id": "wrong", "concept_id": 1, "concept": BUS} | given
    request = V1.SegmentStreamRequest(concept=V1.StreamConcept(**message))
    return Case("SegmentStream", f"a concept: {what}", rejected(request), error, f"concept.{field}")


BAD_CONCEPT_OPTIONS: Sequence[tuple[str, types_pb2.ConceptOptions, str]] = (
    ("a score threshold of 2", types_pb2.ConceptOptions(score_threshold=2), ".score_threshold"),
    (
        "a new-score threshold that is not a number",
        types_pb2.ConceptOptions(new_score_threshold=NAN),
        ".new_score_threshold",
    ),
    ("a hotstart delay of 65 frames", types_pb2.ConceptOptions(hotstart_delay=65), ".hotstart_delay"),
)


CONCEPT_CASES: Sequence[Case] = (
    *(_case(what, error, f"image{where}", image=bad) for what, bad, error, where in BAD_IMAGES),
    *(_case(what, InvalidPrompt, f"concepts[0]{where}", concepts=[bad]) for what, bad, where in BAD_CONCEPTS),
    _case("no concepts", InvalidPrompt, "concepts", concepts=[]),
    _case("33 concepts", InvalidPrompt, "concepts", concepts=[BUS] * 33),
    _case("a score threshold of 1.5", InvalidRequest, "score_threshold", score_threshold=1.5),
    _case("a score threshold that is not a number", InvalidRequest, "score_threshold", score_threshold=NAN),
    *(
        _case(what, InvalidRequest, f"mask_options{where}", mask_options=bad)
        for what, bad, where in BAD_OPTIONS
    ),
    _case("a model without concepts", InvalidRequest, "concepts"),
    *(_added(what, InvalidPrompt, f"concept{where}", concept=bad) for what, bad, where in BAD_CONCEPTS),
    *(
        _added(what, InvalidRequest, f"options{where}", options=bad)
        for what, bad, where in BAD_CONCEPT_OPTIONS
    ),
    *(
        _added(what, InvalidRequest, f"mask_options{where}", mask_options=bad)
        for what, bad, where in BAD_OPTIONS
    ),
    _added("a frame beyond the last", InvalidRequest, "frame_index", frame_index=8),
    _added("a negative frame", InvalidRequest, "frame_index", frame_index=-1),
    _added(
        "exemplars without a frame", InvalidPrompt, "frame_index", concept=by_example(GOOD), frame_index=None
    ),
    *(
        _added(f"the first number {number}", InvalidRequest, "first_obj_id", first_obj_id=number)
        for number in (-1, 1_000_002, 2**62)
    ),
    _added("a key that is too long", InvalidRequest, "idempotency_key", idempotency_key=LONG_KEY),
    _added("a model without concepts", InvalidRequest, "concept"),
    Case(
        "RemoveConcept",
        "an unknown concept",
        unary("RemoveConcept", V1.RemoveConceptRequest, concept_id=7),
        ConceptNotFound,
    ),
    Case(
        "RemoveConcept",
        "an old revision",
        unary("RemoveConcept", V1.RemoveConceptRequest, concept_id=1, expected_revision=0),
        Conflict,
        "expected_revision",
    ),
    *(
        _in_stream(what, InvalidPrompt, f"concept{where}", concept=bad, sequence=0)
        for what, bad, where in BAD_CONCEPTS
    ),
    _in_stream(
        "a hotstart delay",
        InvalidRequest,
        "options.hotstart_delay",
        options=types_pb2.ConceptOptions(hotstart_delay=1),
    ),
    _in_stream("a frame that was not sent", InvalidRequest, "sequence", sequence=7),
    _in_stream("exemplars without a frame", InvalidPrompt, "sequence", concept=by_example(GOOD)),
    _in_stream("a model without concepts", InvalidRequest, "concept"),
    Case(
        "SegmentStream",
        "a removal of a concept that is unknown",
        rejected(V1.SegmentStreamRequest(concept_removal=V1.StreamConceptRemoval(request_id="wrong"))),
        ConceptNotFound,
    ),
)
