"""Invalid calls of SegmentConcepts.  The mesh runs a SAM 2.1, so valid ones fail too."""

from collections.abc import Sequence

from maskmesh import InvalidPrompt, InvalidRequest, MaskmeshError
from maskmesh.v1 import types_pb2
from tests.e2e.bad_inputs import BAD_IMAGES, BAD_OPTIONS, HEIGHT, NAN, WIDTH
from tests.e2e.error_case import Case
from tests.e2e.wrong_calls import segment_concepts

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
)
