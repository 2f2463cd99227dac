"""Every stage compared with the original on equal inputs: within 1e-4 of the largest value.

Reference: the SAM 2.1 video predictor (tiny, 256 x 256, fp32) at commit 2b90b9f.
"""

import pytest
import torch
from torch import Tensor

from tests.golden import arrays, needs_data, relative_error, tiny_encoder, tiny_tracker
from tracker_svc.model.memory_attention import MemoryTokens
from tracker_svc.model.position_encoding import sine_position_encoding

pytestmark = needs_data

TOLERANCE = 1e-4
CPU = torch.device("cpu")


def golden(name: str) -> Tensor:
    return torch.from_numpy(arrays("stages_256")[name])


def assert_equal(actual: Tensor, name: str) -> None:
    expected = golden(name)
    assert actual.shape == expected.shape
    assert relative_error(actual, expected) <= TOLERANCE


def as_map(tokens: Tensor) -> Tensor:
    """Reshape tokens [H * W, 1, C] to a map [1, C, H, W]."""
    return tokens.permute(1, 2, 0).reshape(1, -1, 16, 16)


@torch.inference_mode()
def test_image_encoder() -> None:
    encoder = tiny_encoder()
    image = golden("image_encoder/first/in.0")
    neck, maps = encoder.image_encoder.neck, encoder.image_encoder.trunk(image)
    for level in (0, 1):
        assert_equal(neck.lateral(level)(maps[level]), f"image_encoder/first/out.backbone_fpn.{level}")
    assert_equal(neck(*maps[2:]), "image_encoder/first/out.backbone_fpn.2")
    features = encoder(image)
    assert_equal(features.image_embedding, "image_encoder/first/out.vision_features")
    assert_equal(features.high_res_features_s4, "mask_decoder/first/in.high_res_features.0")
    assert_equal(features.high_res_features_s8, "mask_decoder/first/in.high_res_features.1")


@pytest.mark.parametrize("call", ["first", "last"])
@torch.inference_mode()
def test_prompt_encoder(call: str) -> None:
    stage = f"prompt_encoder/{call}"
    prompts = tiny_tracker().encode_prompts(golden(f"{stage}/in.points.0"), golden(f"{stage}/in.points.1"))
    assert_equal(prompts.sparse_embeddings, f"{stage}/out.0")
    assert_equal(prompts.dense_embeddings, f"{stage}/out.1")


@pytest.mark.parametrize("call", ["first", "last"])
@torch.inference_mode()
def test_mask_decoder(call: str) -> None:
    stage = f"mask_decoder/{call}"
    model = tiny_tracker()
    assert_equal(model.sam_prompt_encoder.image_positions(), f"{stage}/in.image_pe")
    decoded = model.sam_mask_decoder(
        golden(f"{stage}/in.image_embeddings"),
        golden(f"{stage}/in.image_pe"),
        golden(f"{stage}/in.sparse_prompt_embeddings"),
        golden(f"{stage}/in.dense_prompt_embeddings"),
        (golden(f"{stage}/in.high_res_features.0"), golden(f"{stage}/in.high_res_features.1")),
        multimask_output=bool(arrays("stages_256")[f"{stage}/in.multimask_output"]),
    )
    assert_equal(decoded.low_res_masks, f"{stage}/out.0")
    assert_equal(decoded.iou_predictions, f"{stage}/out.1")
    assert_equal(decoded.mask_tokens, f"{stage}/out.2")
    assert_equal(decoded.object_score_logits, f"{stage}/out.3")


@pytest.mark.parametrize("call", ["first", "last"])
@torch.inference_mode()
def test_memory_attention(call: str) -> None:
    stage = f"memory_attention/{call}"
    positions = sine_position_encoding(16, 16, 256, CPU)
    assert_equal(positions.flatten(1).T[:, None], f"{stage}/in.curr_pos.0")
    attention = tiny_tracker().memory_attention
    memory, positions = (golden(f"{stage}/in.{name}").permute(1, 2, 0) for name in ("memory", "memory_pos"))
    pointers = int(arrays("stages_256")[f"{stage}/in.num_obj_ptr_tokens"])
    conditioned = attention(
        attention.prepare(as_map(golden(f"{stage}/in.curr.0")), as_map(golden(f"{stage}/in.curr_pos.0"))),
        MemoryTokens(memory, memory + positions, pointers),
    )
    assert_equal(conditioned.flatten(2).permute(2, 0, 1), f"{stage}/out")


@pytest.mark.parametrize("call", ["first", "last"])
@torch.inference_mode()
def test_memory_encoder(call: str) -> None:
    stage = f"memory_encoder/{call}"
    memory = tiny_tracker().memory_encoder(golden(f"{stage}/in.0"), golden(f"{stage}/in.1"))
    assert_equal(memory, f"{stage}/out.vision_features")
    assert_equal(sine_position_encoding(16, 16, 64, CPU)[None], f"{stage}/out.vision_pos_enc.0")
