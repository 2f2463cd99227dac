"""The image encoder up to the cut: everything that depends on the image alone.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024).  The two high-resolution
projections ``conv_s0`` and ``conv_s1`` are stored with the mask decoder in the official checkpoints, but
they see nothing but the image; with them on this side an embedding is a fifth of the size it would be.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from encoder_svc.model.config import HieraConfig, ImageEncoderConfig, ResidualTrunkConfig
from encoder_svc.model.fpn_neck import FpnNeck
from encoder_svc.model.hiera import Hiera
from encoder_svc.model.residual_trunk import ResidualTrunk


class ImageFeatures(NamedTuple):
    """What leaves the encoder.  Shapes for an image of S x S and a width of C (256 in SAM 2.1)."""

    image_embedding: Tensor  # [B, C, S / 16, S / 16]
    high_res_features_s4: Tensor  # [B, C / 8, S / 4, S / 4]
    high_res_features_s8: Tensor  # [B, C / 4, S / 8, S / 8]


def build_trunk(config: HieraConfig | ResidualTrunkConfig) -> nn.Module:
    """A trunk: from [B, 3, S, S] to four maps [B, config.dims[i], H, W] at strides 4, 8, 16 and 32."""
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
    """Trunk and neck, grouped as the checkpoints group them."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.trunk = build_trunk(config.trunk)
        self.neck = FpnNeck(config.trunk.dims, config.embed_dim)


class ImageEncoder(nn.Module):
    """Backbone and high-resolution projections: an image in, an embedding out."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.image_encoder = Backbone(config)
        self.conv_s0 = nn.Conv2d(config.embed_dim, config.embed_dim // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(config.embed_dim, config.embed_dim // 4, kernel_size=1)

    def forward(self, image: Tensor, pause: Callable[[], object] = lambda: None) -> ImageFeatures:
        """image: [B, 3, S, S], normalised, S a multiple of 32.

        ``pause`` is called wherever the work can be left for a while.
        """
        stride4, stride8, stride16, stride32 = self.image_encoder.trunk(image, pause)
        neck = self.image_encoder.neck
        features = (
            neck(stride16, stride32),
            project_through(neck.lateral(0), self.conv_s0, stride4),
            project_through(neck.lateral(1), self.conv_s1, stride8),
        )
        # One layout in memory, whether an embedding crosses the wire or not: kernels differ by layout,
        # and so do the last bits of what follows.
        return ImageFeatures(*(f.contiguous() for f in features))


def project_through(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> Tensor:
    """Two 1 x 1 convolutions as one: the map between them is eight times as wide as what is needed of it.

    x: [B, C, H, W]; returns [B, second.out_channels, H, W].
    """
    assert first.bias is not None
    assert second.bias is not None
    outer = second.weight.flatten(1).float()
    weight = outer @ first.weight.flatten(1).float()
    bias = outer @ first.bias.float() + second.bias.float()
    return F.conv2d(x, weight[:, :, None, None].to(x.dtype), bias.to(x.dtype))
