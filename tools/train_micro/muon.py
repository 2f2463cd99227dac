"""Muon, whose products are computed in the data type that is fast on the processor.

``torch.optim.Muon`` always computes them in bfloat16, which takes thirty times as long as float32 on a
processor without bfloat16.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95

# Coefficients and number of the iterations that make an update nearly orthogonal.
NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
ITERATIONS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Updates matrices, with Nesterov momentum and the step size of AdamW.

    ``dtype`` is that of the products; in bfloat16 the updates equal those of ``torch.optim.Muon`` with
    ``adjust_lr_fn="match_rms_adamw"``.  The learning rate is ``lr`` of each group, weight decay is
    decoupled.  Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(params, {"lr": 1e-3, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonalized(matrix.grad.lerp(momentum, MOMENTUM), self._dtype)
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonalized(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix [M, N] with the same singular vectors, and singular values near 1; computed in ``dtype``."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.to(dtype, copy=True)
    found = found.T if is_tall else found
    found.div_(found.norm().clamp(min=EPSILON))
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if is_tall else found
