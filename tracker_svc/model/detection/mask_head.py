"""The mask head: from queries and maps to the mask of each query.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation" (2021), in
the form of SAM 3 (Carion et al., 2025).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.layers import MLP
from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.fusion_encoder import ConceptPrompts
from tracker_svc.model.detection.layers import MultiHeadAttention
from tracker_svc.model.detection.neck import DetectorMaps

NORM_GROUPS = 8


class PixelDecoder(nn.Module):
    """Enlarges a map twice and adds a finer one each time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(nn.Conv2d(dim, dim, kernel_size=3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.GroupNorm(NORM_GROUPS, dim) for _ in range(2))

    def forward(self, x: Tensor, maps: DetectorMaps) -> Tensor:
        """x: [B, dim, E, E]; maps: of one image, or of B; returns [B, dim, 4 E, 4 E]."""
        finer = (maps.stride8, maps.stride4)
        for conv, norm, finer_map in zip(self.conv_layers, self.norms, finer, strict=True):
            enlarged = F.interpolate(x, size=finer_map.shape[-2:], mode="nearest")
            x = F.relu(norm(conv(enlarged + finer_map)))
        return x


class MaskPredictor(nn.Module):
    """The network that turns queries to weights of pixel embeddings, grouped as in the checkpoint."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mask_embed = MLP(dim, dim, dim, depth=3)


class MaskHead(nn.Module):
    """Computes pixel embeddings for each concept, and the masks of chosen queries."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.pixel_decoder = PixelDecoder(dim)
        self.mask_predictor = MaskPredictor(dim)
        self.cross_attend_prompt = MultiHeadAttention(dim, config.heads)
        self.cross_attn_norm = nn.LayerNorm(dim)
        self.instance_seg_head = nn.Conv2d(dim, dim, kernel_size=1)

    def embed_pixels(self, image: Tensor, maps: DetectorMaps, prompts: ConceptPrompts) -> Tensor:
        """image: [B, E * E, dim], from the fusion encoder; returns [B, dim, 4 E, 4 E]."""
        words = prompts.tokens
        attended = self.cross_attend_prompt(self.cross_attn_norm(image), words, words, prompts.attention_mask)
        side = maps.stride4.shape[-1] // 4
        grid = (image + attended).transpose(1, 2).unflatten(-1, (side, side))
        pixels: Tensor = self.pixel_decoder(grid, maps)
        return pixels

    def masks(self, pixels: Tensor, queries: Tensor) -> Tensor:
        """The masks of N queries of one concept.

        pixels: [dim, H, W]; queries: [N, dim].  Returns [N, H, W] logits.  The 1 x 1 convolution of the
        pixels is applied to the queries instead, which are fewer.
        """
        head = self.instance_seg_head
        assert head.bias is not None
        weights = self.mask_predictor.mask_embed(queries)
        projected = weights @ head.weight.flatten(1)
        logits = projected @ pixels.flatten(1) + (weights @ head.bias)[:, None]
        y: Tensor = logits.unflatten(-1, pixels.shape[-2:])
        return y
