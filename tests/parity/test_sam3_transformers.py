"""SAM 3 compared with transformers in another configuration, within 1e-4 of the largest value in float32.

Words, words with boxes, boxes of both labels, and tracking.  Where transformers differs from the original,
the tests say so: it takes words without the class token of exemplars, another epsilon in the trunk, and
memory masks that it resizes before it scales them.  DESIGN.md names the differences.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Sam3Config, Sam3Model
from transformers.models.sam3 import modeling_sam3

from encoder_svc.model import vision_transformer
from encoder_svc.model.config import TrunkEncoderConfig, VisionTransformerConfig
from encoder_svc.model.image_encoder import TrunkEncoder
from maskmesh.nn import sam3_layouts
from maskmesh.nn.sam3_layouts import Layout
from tests.golden import relative_error
from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.detector import ConceptDetector
from tracker_svc.model.detection.roi_align import roi_align
from tracker_svc.model.weights import unread_keys

TOLERANCE = 1e-4
WIDTH, SIZE, GRID = 128, 112, 8
TRUNK = VisionTransformerConfig(
    dim=32, depth=2, heads=2, mlp_dim=64, global_attention_blocks=(1,), window_size=4, pretrained_grid=4
)
DETECTOR = DetectorConfig(
    trunk_dim=32, dim=WIDTH, heads=2, hidden_dim=64, encoder_layers=2, decoder_layers=2, exemplar_layers=2,
    queries=9, text_dim=32, text_heads=2, text_layers=2,
)  # fmt: skip
WORDS = torch.tensor([[49406, 2368, 1929, 49407]])
BOXES = torch.tensor([[0.3, 0.4, 0.2, 0.5], [0.7, 0.6, 0.4, 0.3]])
LABELS = torch.tensor([1, 0])

pytestmark = pytest.mark.usefixtures("like_transformers")


@pytest.fixture
def like_transformers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The epsilon of transformers, and an operation of torchvision, which does not load beside torch for
    CPUs.
    """

    def pooled(image: Tensor, boxes: list[Tensor], size: int) -> Tensor:
        return torch.cat([roi_align(i, b, size) for i, b in zip(image, boxes, strict=True)])

    ops = SimpleNamespace(ops=SimpleNamespace(roi_align=pooled))
    monkeypatch.setattr(modeling_sam3, "torchvision", ops, raising=False)
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def reference() -> Sam3Model:
    """A model of transformers with random weights that hide no errors: no zeros, no tiny values."""
    part = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 64, "num_layers": 2}
    config = Sam3Config(
        vision_config={
            "model_type": "sam3_vision_model", "fpn_hidden_size": WIDTH,
            "backbone_feature_sizes": [[4 * GRID] * 2, [2 * GRID] * 2, [GRID] * 2],
            "backbone_config": {
                "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 64,
                "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIZE, "patch_size": 14,
                "window_size": 4, "global_attn_indexes": [1], "pretrain_image_size": 56,
                "layer_norm_eps": vision_transformer.NORM_EPS,
            },
        },
        geometry_encoder_config=part | {"roi_size": 7},
        detr_encoder_config=part,
        detr_decoder_config=part | {"num_queries": 9},
        mask_decoder_config={"hidden_size": WIDTH, "num_attention_heads": 2},
        text_config={
            "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 32, "intermediate_size": 128,
            "projection_dim": 512, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 32, "hidden_act": "gelu",
        },
    )  # fmt: skip
    model = Sam3Model(config)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() < 2:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    model.eval()
    return model


@pytest.fixture(scope="module")
def ours(reference: Sam3Model) -> tuple[TrunkEncoder, ConceptDetector]:
    """Both halves with the weights of the reference, through the layout of Hugging Face."""
    encoder = TrunkEncoder(TrunkEncoderConfig(trunk=TRUNK, image_size=SIZE)).eval()
    detector = ConceptDetector(DETECTOR).eval()
    prefix = "detector.backbone.vision_backbone.trunk."
    shapes = {prefix + k.removeprefix("trunk."): tuple(v.shape) for k, v in encoder.state_dict().items()}
    shapes |= {f"detector.{k}": tuple(v.shape) for k, v in detector.state_dict().items()}
    shapes |= {k: v for k, v in unread_keys(DETECTOR).items() if "sam2_convs" not in k}
    file = {f"detector_model.{key}": value for key, value in reference.state_dict().items()}
    state = sam3_layouts.ConvertedState(file, sam3_layouts.sources(Layout.HUGGING_FACE, shapes))
    encoder.load_state_dict({f"trunk.{k.removeprefix(prefix)}": state[k] for k in state if prefix in k})
    detector.load_state_dict({k: state[f"detector.{k}"] for k in detector.state_dict()})
    return encoder, detector


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", ["words", "words and boxes", "boxes"])
def test_detection(
    reference: Sam3Model, ours: tuple[TrunkEncoder, ConceptDetector], image: Tensor, case: str
) -> None:
    encoder, detector = ours
    has_boxes = case != "words"
    arguments: dict[str, Tensor] = {"input_ids": WORDS, "attention_mask": torch.ones_like(WORDS)}
    if has_boxes:
        labels = LABELS if case == "boxes" else torch.tensor([1, 1])
        arguments |= {"input_boxes": BOXES[None], "input_boxes_labels": labels[None]}
    expected = reference(pixel_values=image, **arguments)

    trunk_map = encoder(image).trunk_map
    coarse, fine = detector.coarse_map(trunk_map), detector.fine_maps(trunk_map)
    tokens = detector.encode_text(WORDS)
    if has_boxes:
        # The original appends the class token always; transformers only with boxes.
        tokens = torch.cat((tokens, detector.encode_exemplars(coarse, BOXES, labels)), dim=1)
    fused = detector.fuse(coarse, [tokens])
    scored = detector.decode(fused)
    [masks] = detector.masks(fused, fine, scored.queries, [list(range(DETECTOR.queries))])

    assert relative_error(scored.query_logits, expected.pred_logits) <= TOLERANCE
    presence = scored.presence_logits.clamp(-10, 10)  # the original does not clamp
    assert torch.allclose(presence, expected.presence_logits[:, 0], atol=TOLERANCE, rtol=TOLERANCE)
    assert relative_error(masks, expected.pred_masks[0]) <= TOLERANCE
    centre, size = scored.boxes[..., :2], scored.boxes[..., 2:]
    corners = torch.cat((centre - size / 2, centre + size / 2), dim=-1)
    assert relative_error(corners, expected.pred_boxes) <= TOLERANCE
