"""The fusion encoder: conditions the map of an image on the prompts of concepts.

Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025).  The self-attention of the first
layer depends on the image alone, so it is computed once for all concepts.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskmesh.nn.preemption import PausePoint
from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.layers import FusionLayer


class ConceptPrompts(NamedTuple):
    """The tokens of B concepts: words, then exemplar boxes, then a class token."""

    tokens: Tensor  # [B, M, dim]
    mask: Tensor | None  # [B, M] bool, True for tokens that are not padding; None without padding

    @property
    def attention_mask(self) -> Tensor | None:
        """The mask in the shape that attention broadcasts: [B, 1, 1, M]."""
        return None if self.mask is None else self.mask[:, None, None]

    def mean(self, tokens: Tensor) -> Tensor:
        """The mean over the valid tokens.  tokens: [B, M, C]; returns [B, C]."""
        if self.mask is None:
            return tokens.mean(dim=1)
        valid = self.mask[..., None].to(tokens.dtype)
        return (tokens * valid).sum(dim=1) / valid.sum(dim=1)

    @classmethod
    def stack(cls, prompts: "list[Tensor]") -> "ConceptPrompts":
        """Pad the tokens of concepts, [1, M, dim] each, to one length."""
        longest = max(p.shape[1] for p in prompts)
        if all(p.shape[1] == longest for p in prompts):
            return cls(torch.cat(prompts), None)
        tokens = prompts[0].new_zeros(len(prompts), longest, prompts[0].shape[2])
        mask = torch.zeros(len(prompts), longest, dtype=torch.bool, device=tokens.device)
        for row, prompt in enumerate(prompts):
            tokens[row, : prompt.shape[1]] = prompt[0]
            mask[row, : prompt.shape[1]] = True
        return cls(tokens, mask)


class ImageTokens(NamedTuple):
    """The part of the fusion encoder that depends on the image alone: of one image, or of B images."""

    attended: Tensor  # [1 or B, E * E, dim], after the first self-attention
    positions: Tensor  # [1, E * E, dim]


class FusionEncoder(nn.Module):
    """The stack of fusion layers."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FusionLayer(config.dim, heads=config.heads, hidden_dim=config.hidden_dim)
            for _ in range(config.encoder_layers)
        )
        self.pause = PausePoint()

    def prepare(self, image: Tensor, positions: Tensor) -> ImageTokens:
        """image: [1 or B, dim, E, E]; positions: [1, dim, E, E]."""
        tokens, placed = (x.flatten(2).transpose(1, 2) for x in (image, positions))
        first = self.layers[0]
        assert isinstance(first, FusionLayer)
        return ImageTokens(first.attend_to_self(tokens, placed), placed)

    def forward(self, image: ImageTokens, prompts: ConceptPrompts) -> Tensor:
        """Condition one image on B concepts, or each of B images on its own; returns [B, E * E, dim]."""
        x = image.attended.expand(len(prompts.tokens), -1, -1)
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, FusionLayer)
            if index:
                x = layer.attend_to_self(x, image.positions)
            x = layer.attend_to_other(x, prompts.tokens, prompts.tokens, mask=prompts.attention_mask)
            self.pause()
        return x
