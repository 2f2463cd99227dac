"""Weights of the tracking model: its part of a checkpoint, or untrained weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from maskmesh.nn.loading import seeded
from tracker_svc.model.config import TrackingModelConfig
from tracker_svc.model.tracking_model import TrackingModel

# Key prefixes of the encoder's part of a full checkpoint; all other keys belong to the tracker.
ENCODER_PREFIXES = ("image_encoder.", "sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")


def to_checkpoint_keys(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a :class:`TrackingModel` with the keys of a full checkpoint, which are the same."""
    return dict(own)


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the tracker's part of a full checkpoint.  Raises RuntimeError if a key is missing."""
    tracker_state = {k: v for k, v in state.items() if not k.startswith(ENCODER_PREFIXES)}
    model.load_state_dict(tracker_state, strict=True)


def build(config: TrackingModelConfig, state: Mapping[str, Tensor] | None) -> TrackingModel:
    """Build a model in evaluation mode with the weights of ``state``; None means untrained weights."""
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
    return model
