"""The image stages of SAM 3 compared with the original, for words, boxes, and words with boxes.

Reference: facebookresearch/sam3 at 99d02f2, a small configuration in float32.  The data's README gives 3e-5
as the tolerance.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import needs_data, relative_error
from tests.golden_sam3 import arrays, image_embedding, tracking_model
from tracker_svc.model.detection.detector import ConceptDetector

pytestmark = [needs_data, pytest.mark.usefixtures("without_gradients")]

TOLERANCE = 3e-5
STAGES = "image_stages_168"


class Case(NamedTuple):
    """A golden prompt: the row of its words, and its number of boxes."""

    name: str
    words: int
    boxes: int


CASES = [
    Case("a_text", words=2, boxes=0),
    Case("b_text_boxes", words=2, boxes=2),
    Case("c_boxes", words=3, boxes=2),
    Case("d_box", words=3, boxes=1),
]


@pytest.fixture
def without_gradients() -> object:
    with torch.inference_mode():
        yield


def detector() -> ConceptDetector:
    made = tracking_model().detector
    assert made is not None
    return made


def golden(name: str, like: Tensor) -> Tensor:
    return torch.from_numpy(arrays(STAGES)[name]).reshape(like.shape)


def assert_equal(name: str, actual: Tensor) -> None:
    error = relative_error(actual, golden(name, actual))
    assert error <= TOLERANCE, (name, error)


def prompt_tokens(case: Case) -> Tensor:
    """The tokens of a case: words, boxes, class token."""
    ids = torch.from_numpy(arrays(STAGES)["text_encoder/ids"])[case.words]
    words = detector().encode_text(ids[None, : int((ids != 0).sum())])
    coarse = detector().coarse_map(image_embedding().trunk_map)
    boxes = torch.from_numpy(arrays(STAGES)["boxes_cxcywh"])[: case.boxes]
    labels = torch.from_numpy(arrays(STAGES)["box_labels"]).long()[: case.boxes]
    exemplars = detector().encode_exemplars(coarse, boxes, labels)
    assert_equal(f"{case.name}/geometry/out", exemplars)
    if case.boxes:
        assert_equal(f"{case.name}/geometry/pooled", detector().geometry_encoder.pool(coarse, boxes))
    return torch.cat((words, exemplars), dim=1)


def test_trunk_and_necks() -> None:
    trunk_map = image_embedding().trunk_map
    assert_equal("vit/out", trunk_map)
    coarse = detector().coarse_map(trunk_map)
    fine = detector().fine_maps(trunk_map)
    assert_equal("detector_neck/level2", coarse)
    assert_equal("detector_neck/level1", fine.stride8)
    assert_equal("detector_neck/level0", fine.stride4)
    assert_equal("position/level2", detector().positions(coarse))
    features = tracking_model().frame_features(image_embedding())
    assert_equal("tracker_neck/level2", features.image_embedding)
    assert_equal("tracker_features/0", features.high_res_features_s4)
    assert_equal("tracker_features/1", features.high_res_features_s8)


@pytest.mark.parametrize("row", range(3))
def test_text_encoder(row: int) -> None:
    ids = torch.from_numpy(arrays(STAGES)["text_encoder/ids"])[row]
    words = detector().encode_text(ids[None, : int((ids != 0).sum())])[0]
    expected = torch.from_numpy(arrays(STAGES)["text_encoder/out"])[: len(words), row]
    assert relative_error(words, expected) <= TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_detection(case: Case) -> None:
    trunk_map = image_embedding().trunk_map
    tokens = prompt_tokens(case)
    fused = detector().fuse(detector().coarse_map(trunk_map), [tokens])
    assert_equal(f"{case.name}/encoder/out", fused.tokens)
    queries = detector().decode(fused)
    hidden = torch.from_numpy(arrays(STAGES)[f"{case.name}/decoder/hidden"])[-1, :, 0]
    assert relative_error(queries.queries[0], hidden) <= TOLERANCE
    assert_equal(f"{case.name}/final/scores", queries.scores)
    assert_equal(f"{case.name}/final/boxes_cxcywh", queries.boxes)
    best = arrays(STAGES)[f"{case.name}/mask/best_index"].tolist()
    fine = detector().fine_maps(trunk_map)
    [masks] = detector().masks(fused, fine, queries.queries, [best])
    assert_equal(f"{case.name}/mask/best", masks)


def test_concepts_in_one_batch_equal_concepts_alone() -> None:
    """Prompts of different lengths are padded; a concept that has no instance costs no masks."""
    trunk_map = image_embedding().trunk_map
    coarse, fine = detector().coarse_map(trunk_map), detector().fine_maps(trunk_map)
    prompts = [prompt_tokens(case) for case in CASES]
    together = detector().fuse(coarse, prompts)
    scored = detector().decode(together)
    chosen = [[3, 7], [], [5], [0]]
    masks = detector().masks(together, fine, scored.queries, chosen)
    for row, prompt in enumerate(prompts):
        fused = detector().fuse(coarse, [prompt])
        alone = detector().decode(fused)
        assert relative_error(scored.scores[row], alone.scores[0]) <= TOLERANCE
        [expected] = detector().masks(fused, fine, alone.queries, [chosen[row]])
        assert masks[row].shape == expected.shape == (len(chosen[row]), 48, 48)
        if chosen[row]:
            assert relative_error(masks[row], expected) <= TOLERANCE


def test_scores_agree_with_the_logits_of_the_video_model() -> None:
    """The video model's joint logit is the inverse sigmoid of the product of both probabilities."""
    case = CASES[0]
    scored = detector().decode(
        detector().fuse(detector().coarse_map(image_embedding().trunk_map), [prompt_tokens(case)])
    )
    joint = torch.logit(scored.scores[0].double(), eps=1e-12).clamp(-10, 10)
    expected = torch.from_numpy(arrays(STAGES)["a_text/final/video_logits"]).double()
    high = scored.scores[0] > 1e-2
    assert np.allclose(joint[high], expected[high], atol=1e-3)
