"""The image encoders: the parts of SAM 2.1 and SAM 3 that depend on the image alone.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024); Carion et al., "SAM 3: Segment
Anything with Concepts" (2025).
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_svc.model.config import (
    HieraConfig,
    ImageEncoderConfig,
    ResidualTrunkConfig,
    TrunkEncoderConfig,
)
from encoder_svc.model.fpn_neck import FpnNeck
from encoder_svc.model.hiera import Hiera
from encoder_svc.model.residual_trunk import ResidualTrunk
from encoder_svc.model.vision_transformer import VisionTransformer
from maskmesh.nn.image_features import ImageFeatures, TrunkFeatures


def build_trunk(config: HieraConfig | ResidualTrunkConfig) -> nn.Module:
    """Build a trunk: [B, 3, S, S] to four maps [B, config.dims[i], H, W] at strides 4, 8, 16 and 32."""
    if isinstance(config, ResidualTrunkConfig):
        return ResidualTrunk(config.dims, blocks=config.blocks, heads=config.heads)
    return Hiera(
        config.dim,
        config.heads,
        stages=config.stages,
        global_attention_blocks=config.global_attention_blocks,
        window_sizes=config.window_sizes,
        background_size=config.background_size,
    )


class Backbone(nn.Module):
    """Trunk and neck, grouped as in the official checkpoints."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.trunk = build_trunk(config.trunk)
        self.neck = FpnNeck(config.trunk.dims, config.embed_dim)


class ImageEncoder(nn.Module):
    """The encoder of SAM 2.1: backbone and high-resolution projections.

    The official checkpoints store the projections ``conv_s0`` and ``conv_s1`` with the mask decoder, but
    their only input is the image.  The encoder applies them, because this reduces an embedding to a fifth of
    its size.
    """

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.normalization = config.normalization
        self.image_encoder = Backbone(config)
        self.conv_s0 = nn.Conv2d(config.embed_dim, config.embed_dim // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(config.embed_dim, config.embed_dim // 4, kernel_size=1)

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights."""
        return self.to(device, dtype)

    def forward(self, image: Tensor) -> ImageFeatures:
        """image: [B, 3, S, S], normalised, S a multiple of 32."""
        stride4, stride8, stride16, stride32 = self.image_encoder.trunk(image)
        neck = self.image_encoder.neck
        features = (
            neck(stride16, stride32),
            project_through(neck.lateral(0), self.conv_s0, stride4),
            project_through(neck.lateral(1), self.conv_s1, stride8),
        )
        # Kernels round differently for different memory layouts.  An embedding that was serialised is
        # contiguous, so every embedding is made contiguous: results do not depend on serialisation.
        return ImageFeatures(*(f.contiguous() for f in features))


class TrunkEncoder(nn.Module):
    """The encoder of SAM 3: the trunk alone.

    Each of the two necks after it makes a map that is as large as the trunk's, or five times as large, and
    only the tracker service knows which of them a request needs.  So the trunk's map is the embedding.
    """

    def __init__(self, config: TrunkEncoderConfig) -> None:
        super().__init__()
        self.normalization = config.normalization
        self.trunk = VisionTransformer(config.trunk)

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights."""
        return self.to(device, dtype)

    def forward(self, image: Tensor) -> TrunkFeatures:
        """image: [B, 3, S, S], normalised, S a multiple of a window of the trunk."""
        return TrunkFeatures(self.trunk(image).contiguous())


def project_through(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply two 1 x 1 convolutions as one convolution.

    This avoids the intermediate map, which has up to eight times as many channels as the output.
    x: [B, C, H, W]; returns [B, second.out_channels, H, W].
    """
    assert first.bias is not None
    assert second.bias is not None
    outer = second.weight.flatten(1).float()
    weight = outer @ first.weight.flatten(1).float()
    bias = outer @ first.bias.float() + second.bias.float()
    return F.conv2d(x, weight[:, :, None, None].to(x.dtype), bias.to(x.dtype))
