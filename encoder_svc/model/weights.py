"""Weights of the image encoder: its part of a checkpoint, or untrained weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoder_svc.model.config import EncoderConfig, ImageEncoderConfig, TrunkEncoderConfig
from encoder_svc.model.hiera import Hiera
from encoder_svc.model.image_encoder import ImageEncoder, TrunkEncoder
from maskmesh.nn.loading import assign_weights, seeded

# The encoder's part of a full checkpoint of SAM 2.1: prefix in the checkpoint -> prefix in ImageEncoder.
PREFIXES = {
    "image_encoder.": "image_encoder.",
    "sam_mask_decoder.conv_s0.": "conv_s0.",
    "sam_mask_decoder.conv_s1.": "conv_s1.",
}

# The encoder's part of a checkpoint of SAM 3.
SAM3_TRUNK_PREFIX = "detector.backbone.vision_backbone.trunk."


def to_checkpoint_keys(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state of an encoder to the keys of a full checkpoint."""
    if any(key.startswith("trunk.") for key in own):
        return {_checkpoint_key(key): value for key, value in own.items()}
    renamed: dict[str, Tensor] = {}
    for checkpoint_prefix, model_prefix in PREFIXES.items():
        renamed |= {
            checkpoint_prefix + k.removeprefix(model_prefix): v
            for k, v in own.items()
            if k.startswith(model_prefix)
        }
    return renamed


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the encoder's part of a full checkpoint of SAM 2.1.  Raises RuntimeError if a key is missing."""
    encoder_state: dict[str, Tensor] = {}
    for checkpoint_prefix, model_prefix in PREFIXES.items():
        encoder_state |= {
            model_prefix + k.removeprefix(checkpoint_prefix): v
            for k, v in state.items()
            if k.startswith(checkpoint_prefix)
        }
    model.load_state_dict(encoder_state, strict=True)


def build(
    config: EncoderConfig, state: Mapping[str, Tensor] | None, dtype: torch.dtype = torch.float32
) -> ImageEncoder | TrunkEncoder:
    """Build an encoder in evaluation mode with the weights of ``state``; None means untrained weights.

    The weights of a SAM 3 are cast to ``dtype`` while they are read.
    """
    model: ImageEncoder | TrunkEncoder
    if isinstance(config, TrunkEncoderConfig):
        model = _build_trunk(config, state, dtype)
    else:
        model = seeded(lambda: _untrained(config))
        if state is not None:
            load(model, state)
        trunk = model.image_encoder.trunk
        if isinstance(trunk, Hiera):
            trunk.fix_positions(config.image_size // 4, config.image_size // 4)
    return model.eval().requires_grad_(False)


def make_model(config: EncoderConfig) -> ImageEncoder | TrunkEncoder:
    """An encoder with random weights."""
    return TrunkEncoder(config) if isinstance(config, TrunkEncoderConfig) else ImageEncoder(config)


def _build_trunk(
    config: TrunkEncoderConfig, state: Mapping[str, Tensor] | None, dtype: torch.dtype
) -> TrunkEncoder:
    if state is None:
        return seeded(lambda: _untrained_trunk(config))
    with torch.device("meta"):
        model = TrunkEncoder(config)
    assign_weights(model, state, {own: _checkpoint_key(own) for own in model.state_dict()}, dtype)
    return model


def _untrained_trunk(config: TrunkEncoderConfig) -> TrunkEncoder:
    model = TrunkEncoder(config)
    nn.init.normal_(model.trunk.pos_embed, std=0.5)
    return model


def _checkpoint_key(own: str) -> str:
    return SAM3_TRUNK_PREFIX + own.removeprefix("trunk.")


def _untrained(config: ImageEncoderConfig) -> ImageEncoder:
    model = ImageEncoder(config)
    for name, parameter in model.named_parameters():
        if "pos_embed" in name:
            nn.init.normal_(parameter, std=0.5)
    return model
