"""Weights of the image encoder: its part of a checkpoint, or untrained weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from encoder_svc.model.config import ImageEncoderConfig
from encoder_svc.model.hiera import Hiera
from encoder_svc.model.image_encoder import ImageEncoder
from maskmesh.nn.loading import seeded

# The encoder's part of a full checkpoint: prefix in the checkpoint -> prefix in ImageEncoder.
PREFIXES = {
    "image_encoder.": "image_encoder.",
    "sam_mask_decoder.conv_s0.": "conv_s0.",
    "sam_mask_decoder.conv_s1.": "conv_s1.",
}


def to_checkpoint_keys(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state of an :class:`ImageEncoder` to the keys of a full checkpoint."""
    renamed: dict[str, Tensor] = {}
    for checkpoint_prefix, model_prefix in PREFIXES.items():
        renamed |= {
            checkpoint_prefix + k.removeprefix(model_prefix): v
            for k, v in own.items()
            if k.startswith(model_prefix)
        }
    return renamed


def load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the encoder's part of a full checkpoint.  Raises RuntimeError if a key is missing."""
    encoder_state: dict[str, Tensor] = {}
    for checkpoint_prefix, model_prefix in PREFIXES.items():
        encoder_state |= {
            model_prefix + k.removeprefix(checkpoint_prefix): v
            for k, v in state.items()
            if k.startswith(checkpoint_prefix)
        }
    model.load_state_dict(encoder_state, strict=True)


def build(config: ImageEncoderConfig, state: Mapping[str, Tensor] | None) -> ImageEncoder:
    """Build an encoder in evaluation mode with the weights of ``state``; None means untrained weights."""
    model = seeded(lambda: _untrained(config))
    if state is not None:
        load(model, state)
    trunk = model.image_encoder.trunk
    if isinstance(trunk, Hiera):
        trunk.fix_positions(config.image_size // 4, config.image_size // 4)
    return model.eval().requires_grad_(False)


def _untrained(config: ImageEncoderConfig) -> ImageEncoder:
    model = ImageEncoder(config)
    for name, parameter in model.named_parameters():
        if "pos_embed" in name:
            nn.init.normal_(parameter, std=0.5)
    return model
