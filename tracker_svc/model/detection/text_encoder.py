"""The text encoder: from the tokens of a phrase to one embedding for each token.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), in
the size of Bolya et al., "Perception Encoder" (2025).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.layers import MultiHeadAttention


class TextFeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim)
        self.c_proj = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim]; returns the same shape."""
        y: Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return y


class TextBlock(nn.Module):
    """Causal self-attention and a feed-forward network."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = MultiHeadAttention(dim, heads)
        self.ln_1 = nn.LayerNorm(dim)
        self.ln_2 = nn.LayerNorm(dim)
        self.mlp = TextFeedForward(dim)

    def forward(self, x: Tensor, causal: Tensor) -> Tensor:
        """x: [B, N, dim]; causal: [N, N] bool; returns [B, N, dim]."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, causal)
        y: Tensor = x + self.mlp(self.ln_2(x))
        return y


class TextTransformer(nn.Module):
    """The blocks, grouped as in the checkpoint."""

    def __init__(self, dim: int, *, heads: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(TextBlock(dim, heads) for _ in range(layers))


class Text(nn.Module):
    """Token and position embeddings, the transformer and the last normalisation."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.text_dim
        self.token_embedding = nn.Embedding(config.vocabulary, dim)
        self.positional_embedding = nn.Parameter(torch.zeros(config.context_length, dim))
        self.transformer = TextTransformer(dim, heads=config.text_heads, layers=config.text_layers)
        self.ln_final = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [B, N] integers; returns [B, N, text_dim]."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        for block in self.transformer.resblocks:
            x = block(x, causal)
        y: Tensor = self.ln_final(x)
        return y


class TextEncoder(nn.Module):
    """Encodes phrases for the detector.

    The checkpoint pads phrases to a fixed length.  Attention is causal, so the embeddings of a phrase do not
    depend on the padding, and phrases are encoded without it.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.encoder = Text(config)
        self.resizer = nn.Linear(config.text_dim, config.dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [B, N] integers; returns [B, N, dim]."""
        y: Tensor = self.resizer(self.encoder(tokens))
        return y
