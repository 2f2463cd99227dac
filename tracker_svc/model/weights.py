"""Weights of the tracking model: official checkpoints, or a fixed seed for the untrained preset."""

import hashlib
import pickle
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tracker_svc.model.config import TrackingModelConfig
from tracker_svc.model.tracking_model import TrackingModel

UNTRAINED_SEED = 0
UNTRAINED_DIGEST = f"untrained-{UNTRAINED_SEED}"

# What of a whole checkpoint belongs to the encoder service.
ENCODER_PREFIXES = ("image_encoder.", "sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")


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
    """The state of a :class:`TrackingModel` under the names of a whole checkpoint: they are the same."""
    return dict(own)


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load this service's half of a whole checkpoint, strictly."""
    own = {k: v for k, v in state.items() if not k.startswith(ENCODER_PREFIXES)}
    model.load_state_dict(own, strict=True)


def build(config: TrackingModelConfig, state: dict[str, Tensor] | None) -> TrackingModel:
    """A model in evaluation mode, with ``state`` or, without one, the seeded untrained weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        model = TrackingModel(config)
        for name, parameter in model.named_parameters():
            if "embed" in name or "token" in name or "tpos_enc" in name or "no_obj_ptr" in name:
                nn.init.normal_(parameter, std=0.5)
        # Untrained objects stay in sight: one that is absent exercises nothing.
        *_, last = model.sam_mask_decoder.pred_obj_score_head.parameters()
        nn.init.constant_(last, 4.0)
    if state is not None:
        load(model, state)
    return model.eval().requires_grad_(False)
