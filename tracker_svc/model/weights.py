"""Weights of the tracking model: its part of a checkpoint, or untrained weights."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from maskmesh.nn.loading import assign_weights, seeded
from tracker_svc.model.config import DetectorConfig, TrackingModelConfig
from tracker_svc.model.detection.detector import ConceptDetector
from tracker_svc.model.tracking_model import TrackingModel

# Factors of the weights of an untrained detector: scores on both sides of thresholds, logits of some units.
SCORE_SPREAD = 12.0
MASK_SPREAD = 0.03

# Key prefixes of the encoder's part of a full checkpoint of SAM 2.1; all other keys belong to the tracker.
ENCODER_PREFIXES = ("image_encoder.", "sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")


# Output channels of the text projection, which SAM 3 does not apply.
TEXT_PROJECTION_DIM = 512

# Keys of a checkpoint of SAM 3 that no stage reads.
_UNREAD_LEVEL = "detector.backbone.vision_backbone.{}.3."
_UNREAD_CONV = "detector.segmentation_head.pixel_decoder.conv_layers.2."
_UNREAD_NORM = "detector.segmentation_head.pixel_decoder.norms.2."


def to_checkpoint_keys(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a :class:`TrackingModel` with the keys of a full checkpoint.

    They are the same in SAM 2.1.
    """
    if not is_sam3(own):
        return dict(own)
    return {sam3_key(key): value for key, value in own.items()}


def is_sam3(own: Iterable[str]) -> bool:
    """Whether the keys of a tracking model are those of a SAM 3."""
    return any(key.startswith("detector.") for key in own)


def sam3_key(own: str) -> str:
    """The key in a checkpoint of SAM 3 of a tracking model's own key."""
    if own.startswith("detector."):
        return own
    if own.startswith("neck."):
        return "detector.backbone.vision_backbone.sam2_convs." + own.removeprefix("neck.")
    if own.startswith(("conv_s0.", "conv_s1.")):
        return "tracker.sam_mask_decoder." + own
    own = own.replace("memory_attention.", "transformer.encoder.")
    own = own.replace("memory_encoder.", "maskmem_backbone.")
    if own.startswith("sam_mask_decoder.transformer.layers."):
        own = own.replace(".mlp.layers.0.", ".mlp.lin1.").replace(".mlp.layers.1.", ".mlp.lin2.")
    return "tracker." + own


def unread_keys(config: DetectorConfig) -> dict[str, tuple[int, ...]]:
    """The keys of a checkpoint of SAM 3 that no stage reads, and their shapes."""
    dim, trunk_dim = config.dim, config.trunk_dim
    shapes: dict[str, tuple[int, ...]] = {
        "detector.backbone.language_backbone.encoder.text_projection": (config.text_dim, TEXT_PROJECTION_DIM),
        "detector.segmentation_head.semantic_seg_head.weight": (1, dim, 1, 1),
        "detector.segmentation_head.semantic_seg_head.bias": (1,),
        _UNREAD_CONV + "weight": (dim, dim, 3, 3),
        _UNREAD_CONV + "bias": (dim,),
        _UNREAD_NORM + "weight": (dim,),
        _UNREAD_NORM + "bias": (dim,),
    }
    for neck in ("convs", "sam2_convs"):
        level = _UNREAD_LEVEL.format(neck)
        shapes[level + "conv_1x1.weight"] = (dim, trunk_dim, 1, 1)
        shapes[level + "conv_3x3.weight"] = (dim, dim, 3, 3)
        shapes |= {f"{level}{conv}.bias": (dim,) for conv in ("conv_1x1", "conv_3x3")}
    return shapes


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the tracker's part of a full checkpoint of SAM 2.1.  Raises RuntimeError if a key is missing."""
    tracker_state = {k: v for k, v in state.items() if not k.startswith(ENCODER_PREFIXES)}
    model.load_state_dict(tracker_state, strict=True)


def build(
    config: TrackingModelConfig, state: Mapping[str, Tensor] | None, dtype: torch.dtype = torch.float32
) -> TrackingModel:
    """Build a model in evaluation mode with the weights of ``state``; None means untrained weights.

    The weights of a SAM 3 are cast to ``dtype`` while they are read.
    """
    if config.detector is not None and state is not None:
        with torch.device("meta"):
            model = TrackingModel(config)
        assign_weights(model, state, {own: sam3_key(own) for own in model.state_dict()}, dtype)
    else:
        model = seeded(lambda: _untrained(config))
        if state is not None:
            load(model, state)
    return model.eval().requires_grad_(False)


def _untrained(config: TrackingModelConfig) -> TrackingModel:
    model = TrackingModel(config)
    for name, parameter in model.named_parameters():
        if "embed" in name or "token" in name or "tpos_enc" in name or "no_obj_ptr" in name:
            nn.init.normal_(parameter, std=0.5)
    # The bias keeps objects in sight with untrained weights; absent objects would leave most stages
    # untested.
    *_, last = model.sam_mask_decoder.pred_obj_score_head.parameters()
    nn.init.constant_(last, 4.0)
    if model.detector is not None:
        _spread_scores(model.detector)
    return model


def _spread_scores(detector: ConceptDetector) -> None:
    """Give some queries of an untrained detector high scores, and their masks both signs."""
    for name, parameter in detector.named_parameters():
        if name.endswith(("positional_embedding", "reference_points.weight")):
            nn.init.normal_(parameter)
    _scale(detector.dot_prod_scoring.hs_proj.weight, SCORE_SPREAD)
    *_, weight, _ = detector.segmentation_head.mask_predictor.mask_embed.parameters()
    _scale(weight, MASK_SPREAD)


@torch.no_grad()
def _scale(weight: Tensor, factor: float) -> None:
    """Multiply a weight in place."""
    weight.mul_(factor)
