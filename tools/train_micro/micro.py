"""The whole model for training, and the export of its weights for the services."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.config import IMAGENET, ImageEncoderConfig
from encoder_svc.model.config import PRESETS as ENCODER_PRESETS
from encoder_svc.model.image_encoder import ImageEncoder
from encoder_svc.model.residual_trunk import Conv
from maskmesh.nn.checkpoint import read_checkpoint
from maskmesh.nn.image_features import ImageFeatures
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.config import PRESETS as TRACKER_PRESETS
from tracker_svc.model.tracking_model import TrackingModel

PRESET = "micro"

# Stored in the metadata of the weight file; the full text is in the NOTICE file in the same folder.
NOTICE = "Trained by maskmesh on ECSSD and other sets, some for research; see maskmesh/nn/weights/NOTICE."


# Parts of the names of learned embedding vectors.
EMBEDDINGS = ("embed", "token", "tpos_enc", "no_obj_ptr", "no_mem_pos_enc")


def encoder_config() -> ImageEncoderConfig:
    """The dimensions of the image encoder."""
    config = ENCODER_PRESETS[PRESET]
    assert isinstance(config, ImageEncoderConfig)
    return config


class Micro(nn.Module):
    """Encoder and tracking model of the preset, with batch normalisation in the trunk.

    ``size`` is the side of the input in pixels; the weights do not depend on it.
    """

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.size = size or ENCODER_PRESETS[PRESET].image_size
        self.encoder = ImageEncoder(encoder_config())
        self.tracker = TrackingModel(replace(TRACKER_PRESETS[PRESET], image_size=self.size))
        for module in self.encoder.modules():
            if isinstance(module, Conv):
                module.norm = nn.BatchNorm2d(module.conv.out_channels)
        for name, parameter in self.tracker.named_parameters():
            if is_embedding(name):
                nn.init.normal_(parameter, std=0.02)

    def encode(self, frames: Tensor) -> ImageFeatures:
        """Encode frames: [B, S, S, 3], uint8, RGB; returns the features of B frames."""
        pixels = frames.permute(0, 3, 1, 2).float() / 255
        mean = torch.tensor(IMAGENET.mean, device=frames.device).view(1, 3, 1, 1)
        std = torch.tensor(IMAGENET.std, device=frames.device).view(1, 3, 1, 1)
        return ImageFeatures(*self.encoder((pixels - mean) / std))


def is_embedding(name: str) -> bool:
    """Whether a parameter is a learned embedding vector and not a weight matrix."""
    # Layers in the decoder's transformer are named after the tokens that they process.
    return ".transformer." not in name and any(part in name for part in EMBEDDINGS)


def take(features: ImageFeatures, rows: Tensor) -> ImageFeatures:
    """Select the features of frames of a batch; rows: [N], indices."""
    return ImageFeatures(*(f[rows] for f in features))


def folded(model: Micro) -> Micro:
    """A copy with batch normalisation folded into the convolutions, for evaluation mode only."""
    served = copy.deepcopy(model).eval()
    for module in served.encoder.modules():
        if isinstance(module, Conv) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
    return served


def start_from(model: Micro, path: Path, frames: Tensor) -> None:
    """Load exported weights to train them further; frames: [B, S, S, 3], uint8, typical ones.

    The export has no batch normalisation.  Its statistics are those of ``frames``, and its scale and offset
    undo them, so that the model computes the same.  Raises what :func:`read_checkpoint` raises.
    """
    state = {name: tensor.float() for name, tensor in read_checkpoint(PRESET, path).items()}
    plain = ImageEncoder(encoder_config())
    encoder_weights.load(plain, state)
    model.encoder.load_state_dict(plain.state_dict(), strict=False)
    tracker_weights.load(model.tracker, state)
    hooks = [
        module.register_forward_pre_hook(_take_statistics)
        for module in model.encoder.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        model.eval().encode(frames)
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.bias.copy_(mean)
    norm.weight.copy_((variance + norm.eps).sqrt())


def export(model: Micro, path: Path) -> None:
    """Write the whole checkpoint in float16: its values are small, and bfloat16 has a shorter mantissa.

    Raises ValueError if a weight is not finite in float16.
    """
    served = folded(model)
    state = encoder_weights.to_checkpoint_keys(served.encoder.state_dict())
    state |= tracker_weights.to_checkpoint_keys(served.tracker.state_dict())
    _write(state, path)


def interpolate(first: Path, second: Path, share: float, path: Path) -> None:
    """Write weights between two exports: ``1 - share`` of the first and ``share`` of the second.

    If the second was trained further from the first, weights between both keep most of what either does
    best.  Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022).  Raises what
    :func:`read_checkpoint` raises.
    """
    one, other = read_checkpoint(PRESET, first), read_checkpoint(PRESET, second)
    _write({key: torch.lerp(one[key].float(), other[key].float(), share) for key in one}, path)


def _write(state: Mapping[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    halves = {k: v.detach().cpu().to(torch.float16).contiguous() for k, v in state.items()}
    broken = [k for k, v in halves.items() if not v.isfinite().all()]
    if broken:
        raise ValueError(f"weights not finite in float16: {', '.join(broken)}")
    partial = path.with_suffix(".partial")
    save_file(halves, partial, metadata={"format": "pt", "notice": NOTICE})
    partial.chmod(0o644)
    partial.rename(path)
