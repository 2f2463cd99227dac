"""The score of each query: how well it fits the prompt.

Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025).
"""

from torch import Tensor, nn

from maskmesh.nn.layers import MLP
from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.fusion_encoder import ConceptPrompts

MAX_LOGIT = 12.0


class PromptMLP(MLP):
    """A residual network with a layer normalisation at its end."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__(dim, hidden_dim, dim, depth=2)
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., dim]; returns the same shape."""
        y: Tensor = self.out_norm(x + super().forward(x))
        return y


class DotProductScoring(nn.Module):
    """The scaled product of a query with the mean of the prompt's tokens."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        dim = config.dim
        self.prompt_mlp = PromptMLP(dim, config.hidden_dim)
        self.prompt_proj = nn.Linear(dim, dim)
        self.hs_proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, prompts: ConceptPrompts) -> Tensor:
        """queries: [B, Q, dim]; returns logits [B, Q], float32."""
        pooled = self.prompt_proj(prompts.mean(self.prompt_mlp(prompts.tokens)))
        products = (self.hs_proj(queries) @ pooled[..., None])[..., 0].float()
        y: Tensor = (products * queries.shape[-1] ** -0.5).clamp(-MAX_LOGIT, MAX_LOGIT)
        return y
