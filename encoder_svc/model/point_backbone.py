"""The backbone of TAPIR (Doersch et al., "TAPIR: Tracking Any Point with per-frame Initialization and
temporal Refinement", 2023), with the extra convolutions of BootsTAPIR (Doersch et al., 2024).

A residual network with pre-activation and instance normalisation.  Its maps at strides 4 and 8 are the
embedding of a frame, from which the tracker service computes where points are.
"""

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_svc.model.config import GreyConfig, PointBackboneConfig
from maskmesh.nn.image_features import GreyFeatures, PointFeatures
from maskmesh.nn.loading import seeded
from maskmesh.nn.preemption import PausePoint

PREFIXES = ("resnet_torch.", "extra_convs.")
"""The encoder's part of a checkpoint of TAPIR."""

# The first convolution and those of stride 2 are padded as TensorFlow's "same" padding does, with more
# pixels on the right and at the bottom.
_STEM_PADDING = (2, 4, 2, 4)
_STRIDED_PADDING = (0, 2, 0, 2)


class PreActivationBlock(nn.Module):
    """A residual block that normalises before each convolution; the first of a stage projects its input."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, is_first: bool) -> None:
        super().__init__()
        self.bn_0 = nn.InstanceNorm2d(in_channels, affine=True)
        self.conv_0 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=stride % 2, bias=False)
        self.bn_1 = nn.InstanceNorm2d(out_channels, affine=True)
        self.conv_1 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.proj_conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if is_first else None
        self._is_strided = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns [B, out_channels, H / stride, W / stride]."""
        activated = F.relu(self.bn_0(x))
        shortcut = x if self.proj_conv is None else self.proj_conv(activated)
        padded = F.pad(activated, _STRIDED_PADDING) if self._is_strided else activated
        out: Tensor = self.conv_1(F.relu(self.bn_1(self.conv_0(padded))))
        return out + shortcut


class Stage(nn.Module):
    """Blocks of one width, the first of which may halve the resolution."""

    def __init__(self, in_channels: int, out_channels: int, *, num_blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(in_channels, out_channels, stride=stride, is_first=True)
        others = (
            PreActivationBlock(out_channels, out_channels, stride=1, is_first=False)
            for _ in range(num_blocks - 1)
        )
        self.blocks = nn.Sequential(first, *others)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns [B, out_channels, H / stride, W / stride]."""
        out: Tensor = self.blocks(x)
        return out


class ResidualNetwork(nn.Module):
    """Four stages at strides 2, 4, 8 and 8."""

    def __init__(self, config: PointBackboneConfig) -> None:
        super().__init__()
        stem, *_ = config.channels
        self.initial_conv = nn.Conv2d(3, stem, 7, stride=2, bias=False)
        inputs = (stem, *config.channels[:-1])
        self.block_groups = nn.ModuleList(
            Stage(before, after, num_blocks=config.blocks_per_stage, stride=stride)
            for before, after, stride in zip(inputs, config.channels, (1, 2, 2, 1), strict=True)
        )
        self.pause = PausePoint()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: [B, 3, S, S]; returns the maps at stride 4, [B, channels[1], S / 4, S / 4], and at 8."""
        x = self.initial_conv(F.pad(image, _STEM_PADDING))
        maps = []
        for stage in self.block_groups:
            self.pause()
            x = stage(x)
            maps.append(x)
        return maps[1], maps[3]


class ExtraConvolutionBlock(nn.Module):
    """Two convolutions around a wide layer, added to their normalised input."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(channels)
        self.conv = nn.Conv2d(channels, expansion * channels, 3, padding=1)
        self.conv_1 = nn.Conv2d(expansion * channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns the same shape."""
        normalized: Tensor = self.layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        changed: Tensor = self.conv_1(F.gelu(self.conv(normalized), approximate="tanh"))
        return normalized + changed


class ExtraConvolutions(nn.Module):
    """The blocks that BootsTAPIR has after the residual network."""

    def __init__(self, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ExtraConvolutionBlock(channels) for _ in range(num_blocks))
        self.pause = PausePoint()

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns the same shape."""
        for block in self.blocks:
            self.pause()
            x = block(x)
        return x


class PointEncoder(nn.Module):
    """The part of TAPIR that depends on the image alone."""

    def __init__(self, config: PointBackboneConfig) -> None:
        super().__init__()
        self.normalization = config.normalization
        self.resnet_torch = ResidualNetwork(config)
        self.extra_convs = ExtraConvolutions(config.channels[-1], config.extra_blocks)

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights."""
        return self.to(device, dtype)

    def forward(self, image: Tensor) -> PointFeatures:
        """image: [B, 3, S, S], values -1 to 1, S a multiple of 8."""
        high_res, low_res = self.resnet_torch(image)
        return PointFeatures(_unit_length(self.extra_convs(low_res)), _unit_length(high_res))


class GreyEncoder(nn.Module):
    """The picture in grey, 0 to 255: all that Lucas-Kanade needs of a frame."""

    def __init__(self, config: GreyConfig) -> None:
        super().__init__()
        self.normalization = config.normalization
        # Source: ITU-R BT.601.
        self.luma: Tensor
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1) * 255)

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move the weights; values up to 255 are exact in every type."""
        return self.to(device)

    def forward(self, image: Tensor) -> GreyFeatures:
        """image: [B, 3, S, S], values 0 to 1."""
        grey = (image.float() * self.luma).sum(dim=1, keepdim=True).round()
        return GreyFeatures(grey.to(image.dtype).contiguous())


def build(
    config: PointBackboneConfig | GreyConfig, state: Mapping[str, Tensor] | None, dtype: torch.dtype
) -> PointEncoder | GreyEncoder:
    """Build an encoder in evaluation mode with the weights of ``state``; None means untrained weights."""
    if isinstance(config, GreyConfig):
        return GreyEncoder(config).eval().requires_grad_(False)
    model = seeded(lambda: PointEncoder(config))
    if state is not None:
        own = {key: value for key, value in state.items() if key.startswith(PREFIXES)}
        model.load_state_dict(own, strict=True)
    return model.eval().requires_grad_(False)


def _unit_length(features: Tensor) -> Tensor:
    """Scale the features of each cell to length 1."""
    squares: Tensor = features.float().square().sum(dim=1, keepdim=True)
    scaled: Tensor = features * squares.clamp(min=1e-12).rsqrt()
    unit: Tensor = scaled.to(features.dtype).contiguous()
    return unit
