"""Every stage compared with Sam2VideoModel of transformers in another configuration: base-plus, 512 x 512.

Reference: transformers 5.23, with random weights of a fixed seed under the official checkpoint key names.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Sam2VideoConfig, Sam2VideoModel

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.image_encoder import ImageEncoder
from maskmesh.nn.checkpoint import check_keys
from tests.golden import relative_error
from tools.bench.transformers_names import to_checkpoint
from tracker_svc.model import config as tracker_config
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.memory_attention import MemoryTokens
from tracker_svc.model.position_encoding import sine_position_encoding
from tracker_svc.model.tracking_model import TrackingModel

PRESET = "sam2.1-base-plus"
SIZE = 512
GRID = SIZE // 16
TOLERANCE = 1e-4


@cache
def reference() -> Sam2VideoModel:
    config: Any = Sam2VideoConfig(image_size=SIZE)
    trunk = config.vision_config.backbone_config
    trunk.hidden_size, trunk.num_attention_heads = 112, 2
    trunk.embed_dim_per_stage = [112, 224, 448, 896]
    trunk.num_attention_heads_per_stage = [2, 4, 8, 16]
    trunk.blocks_per_stage = [2, 3, 16, 3]
    trunk.global_attention_blocks = [12, 16, 20]
    trunk.window_positional_embedding_background_size = [14, 14]
    trunk.image_size = [SIZE, SIZE]
    config.vision_config.backbone_channel_list = [896, 448, 224, 112]
    config.vision_config.backbone_feature_sizes = [[SIZE // s, SIZE // s] for s in (4, 8, 16)]
    config.prompt_encoder_config.image_size = SIZE
    config.memory_attention_rope_feat_sizes = [GRID, GRID]
    torch.manual_seed(0)
    model: Sam2VideoModel = Sam2VideoModel(config).eval()
    model.shared_image_embedding = model.prompt_encoder.shared_embedding  # one matrix in checkpoints, too
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The initialisation of transformers sets embeddings to zero and layer scales to 1e-6.
            scale = 0.5 if "embed" in name or "scale" in name or "token" in name else 0.05
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


@cache
def ours() -> tuple[ImageEncoder, TrackingModel]:
    state = to_checkpoint(reference())
    check_keys(PRESET, {key: tuple(value.shape) for key, value in state.items()})
    encoder = replace(encoder_config.PRESETS[PRESET], image_size=SIZE)
    tracker = replace(tracker_config.PRESETS[PRESET], image_size=SIZE)
    built = encoder_weights.build(encoder, state)
    assert isinstance(built, ImageEncoder)
    return built, tracker_weights.build(tracker, state)


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(actual: Tensor, expected: Tensor) -> None:
    assert actual.shape == expected.shape
    assert relative_error(actual, expected) <= TOLERANCE


def as_map(tokens: Tensor, size: int) -> Tensor:
    return tokens.permute(1, 2, 0).reshape(1, -1, size, size)


@torch.inference_mode()
def test_image_encoder() -> None:
    image = random(1, 3, SIZE, SIZE)
    expected = reference().get_image_features(image, return_dict=True).fpn_hidden_states
    features = ours()[0](image)
    assert_close(features.high_res_features_s4, as_map(expected[0], SIZE // 4))
    assert_close(features.high_res_features_s8, as_map(expected[1], SIZE // 8))
    assert_close(features.image_embedding, as_map(expected[2], GRID))


@pytest.mark.parametrize("with_mask", [False, True])
@torch.inference_mode()
def test_prompt_encoder(with_mask: bool) -> None:
    coords = torch.tensor([[[10.0, 20.0], [200.5, 300.0], [30.0, 40.0], [400.0, 500.0]]])
    labels = torch.tensor([[1, 0, 2, 3]])
    mask = random(1, 1, SIZE // 4, SIZE // 4) if with_mask else None
    sparse, dense = reference().prompt_encoder(coords[None], labels[None], None, mask)
    prompts = ours()[1].encode_prompts(coords, labels, mask)
    assert_close(prompts.sparse_embeddings, sparse[0])
    assert_close(prompts.dense_embeddings, dense)


@pytest.mark.parametrize("multimask_output", [True, False])
@torch.inference_mode()
def test_mask_decoder(multimask_output: bool) -> None:
    image, sparse = random(1, 256, GRID, GRID), random(1, 3, 256, seed=2)
    dense = random(1, 256, GRID, GRID, seed=3)
    high = random(1, 32, 4 * GRID, 4 * GRID, seed=4), random(1, 64, 2 * GRID, 2 * GRID, seed=5)
    positions = reference().get_image_wide_positional_embeddings()
    masks, ious, tokens, scores = reference().mask_decoder(
        image, positions, sparse[:, None], dense, multimask_output, list(high)
    )
    model = ours()[1]
    assert_close(model.sam_prompt_encoder.image_positions(), positions)
    decoded = model.sam_mask_decoder(image, positions, sparse, dense, high, multimask_output=multimask_output)
    assert_close(decoded.low_res_masks, masks[:, 0])
    assert_close(decoded.iou_predictions, ious[:, 0])
    assert_close(decoded.mask_tokens, tokens[:, 0])
    assert_close(decoded.object_score_logits, scores.view(1, 1))


@torch.inference_mode()
def test_memory_attention() -> None:
    tokens, pointers = GRID * GRID, 8
    current = random(tokens, 1, 256)
    memory = random(3 * tokens + pointers, 1, 64, seed=2)
    memory_positions = random(3 * tokens + pointers, 1, 64, seed=3)
    positions = sine_position_encoding(GRID, GRID, 256, torch.device("cpu"))
    expected = reference().memory_attention(
        current_vision_features=current,
        memory=memory,
        current_vision_position_embeddings=positions.flatten(1).T[:, None],
        memory_posision_embeddings=memory_positions,
        num_object_pointer_tokens=pointers,
    )
    attention = ours()[1].memory_attention
    conditioned = attention(
        attention.prepare(as_map(current, GRID), positions[None]),
        MemoryTokens(memory.permute(1, 2, 0), (memory + memory_positions).permute(1, 2, 0), pointers),
    )
    assert_close(conditioned, as_map(expected.reshape(tokens, 1, 256), GRID))


@torch.inference_mode()
def test_memory_encoder() -> None:
    image, mask = random(1, 256, GRID, GRID), 10 * random(1, 1, SIZE, SIZE, seed=2)
    features, positions = reference().memory_encoder(image, mask)
    assert_close(ours()[1].memory_encoder(image, mask), features)
    assert_close(sine_position_encoding(GRID, GRID, 64, torch.device("cpu"))[None], positions)
