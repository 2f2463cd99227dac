"""The transformer of the mask decoder: tokens attend to the image, and the image attends to the tokens.

Source: Kirillov et al., "Segment Anything" (2023).
"""

from typing import NamedTuple

from torch import Tensor, nn

from maskmesh.nn.layers import MLP
from tracker_svc.model.layers import Attention


class TwoWayOutput(NamedTuple):
    """The tokens and the image after the transformer."""

    tokens: Tensor  # [B, N, C]
    image: Tensor  # [B, H * W, C]


class TwoWayBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, an MLP, image to tokens.

    In the first block, self-attention has no token positions and no residual connection.
    """

    def __init__(self, dim: int, *, heads: int, hidden_dim: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads=heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads=heads, inner_dim=dim // 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, hidden_dim, dim, depth=2)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads=heads, inner_dim=dim // 2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_positions: Tensor, image_positions: Tensor
    ) -> TwoWayOutput:
        """tokens, token_positions: [B, N, C]; image: [B, HW, C]; image_positions: [1, HW, C]."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            with_positions = tokens + token_positions
            tokens = tokens + self.self_attn(with_positions, with_positions, tokens)
        tokens = self.norm1(tokens)

        placed_image = image + image_positions
        attended = self.cross_attn_token_to_image(tokens + token_positions, placed_image, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))

        with_positions = tokens + token_positions
        image = self.norm4(image + self.cross_attn_image_to_token(placed_image, with_positions, tokens))
        return TwoWayOutput(tokens, image)


class TwoWayTransformer(nn.Module):
    """A stack of blocks, and a final attention of the tokens to the image."""

    def __init__(self, dim: int, *, depth: int, heads: int, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, heads=heads, hidden_dim=hidden_dim, first=index == 0) for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, heads=heads, inner_dim=dim // 2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_positions: Tensor, tokens: Tensor) -> TwoWayOutput:
        """image: [B, C, H, W]; image_positions: [1, C, H, W]; tokens: [B, N, C]."""
        image = image.flatten(2).transpose(1, 2)
        image_positions = image_positions.flatten(2).transpose(1, 2)
        token_positions = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_positions, image_positions)
        attended = self.final_attn_token_to_image(tokens + token_positions, image + image_positions, image)
        return TwoWayOutput(self.norm_final_attn(tokens + attended), image)
