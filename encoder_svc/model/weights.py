"""Weights of the image encoder: official checkpoints, or a fixed seed for the untrained preset."""

import hashlib
import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from encoder_svc.model.config import ImageEncoderConfig
from encoder_svc.model.hiera import Hiera
from encoder_svc.model.image_encoder import ImageEncoder

UNTRAINED_SEED = 0
UNTRAINED_DIGEST = f"untrained-{UNTRAINED_SEED}"

# What this service owns of a whole checkpoint: name there -> name here.
PREFIXES = {
    "image_encoder.": "image_encoder.",
    "sam_mask_decoder.conv_s0.": "conv_s0.",
    "sam_mask_decoder.conv_s1.": "conv_s1.",
}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a whole checkpoint onto the host without running any code in it.

    ``.safetensors`` files, or ``.pt`` files that hold ``{"model": state_dict}``.
    Raises ValueError where the file holds something else.
    """
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read without running code in it") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f'{path.name} does not hold {{"model": state_dict}}')
    return state


def weights_digest(state: dict[str, Tensor]) -> str:
    """A digest of names, types, shapes and values: equal for equal weights in whatever container."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key].contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_checkpoint_keys(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of an :class:`ImageEncoder` under the names of a whole checkpoint."""
    renamed: dict[str, Tensor] = {}
    for theirs, ours in PREFIXES.items():
        renamed |= {theirs + k.removeprefix(ours): v for k, v in own.items() if k.startswith(ours)}
    return renamed


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load this service's half of a whole checkpoint, strictly."""
    own: dict[str, Tensor] = {}
    for theirs, ours in PREFIXES.items():
        own |= {ours + k.removeprefix(theirs): v for k, v in state.items() if k.startswith(theirs)}
    model.load_state_dict(own, strict=True)


def build(config: ImageEncoderConfig, state: dict[str, Tensor] | None) -> ImageEncoder:
    """An encoder in evaluation mode, with ``state`` or, without one, the seeded untrained weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        model = ImageEncoder(config)
        for name, parameter in model.named_parameters():
            if "pos_embed" in name:
                nn.init.normal_(parameter, std=0.5)
    if state is not None:
        load(model, state)
    trunk = model.image_encoder.trunk
    if isinstance(trunk, Hiera):
        trunk.fix_positions(config.image_size // 4, config.image_size // 4)
    return model.eval().requires_grad_(False)
