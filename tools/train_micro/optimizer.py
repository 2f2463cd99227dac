"""The optimizer: Muon for matrices and kernels, AdamW for all other parameters.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the step sizes
of Liu et al., "Muon is Scalable for LLM Training" (2025), so that both use one learning rate.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tools.train_micro.muon import Muon

# Muon orthogonalises updates; matrices with fewer rows or columns are too small to benefit.
MIN_SIDE = 16


class _Kernel(NamedTuple):
    """A matrix or a kernel, and its view as the matrix [out, in] for Muon."""

    parameter: nn.Parameter
    matrix: nn.Parameter
    is_channels_last: bool


class MuonAndAdamW:
    """Muon and AdamW together; ``share`` returns a parameter's factor of the learning rate, by name.

    Parameters without a gradient are left alone.  AdamW updates all parameters for which ``is_vector`` is
    true, regardless of shape.  ``weight_decay`` applies to Muon only, and ``dtype`` is that of its products.
    Raises ValueError if a weight is neither contiguous nor channels last.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weight_decay: float,
        share: Callable[[str], float],
        is_vector: Callable[[str], bool],
        dtype: torch.dtype,
    ) -> None:
        plain: dict[float, list[nn.Parameter]] = {}
        kernels: dict[float, list[_Kernel]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            rows = len(parameter) if parameter.ndim else 1
            if (
                parameter.ndim in (2, 4)
                and min(rows, parameter.numel() // rows) >= MIN_SIDE
                and not is_vector(name)
            ):
                kernels.setdefault(share(name), []).append(_kernel(name, parameter))
            else:
                plain.setdefault(share(name), []).append(parameter)
        self._kernels = [kernel for group in kernels.values() for kernel in group]
        self._adamw = torch.optim.AdamW(
            [{"params": parameters, "share": part} for part, parameters in plain.items()],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        )
        self._muon = Muon(
            [{"params": [k.matrix for k in group], "share": part} for part, group in kernels.items()],
            weight_decay=weight_decay,
            dtype=dtype,
        )

    def step(self, learning_rate: float) -> None:
        """Update all parameters; ``learning_rate`` is the rate for a share of 1."""
        for kernel in self._kernels:
            gradient = kernel.parameter.grad
            kernel.matrix.grad = (
                None if gradient is None else _as_matrix(gradient, is_channels_last=kernel.is_channels_last)
            )
        for optimizer in (self._adamw, self._muon):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["share"]
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The state for :meth:`load_state_dict`."""
        return {"adamw": self._adamw.state_dict(), "muon": self._muon.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of an optimizer of the same model; raises ValueError for another model."""
        self._adamw.load_state_dict(state["adamw"])
        self._muon.load_state_dict(state["muon"])


def _kernel(name: str, parameter: nn.Parameter) -> _Kernel:
    weight = parameter.data
    is_channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    matrix = _as_matrix(weight, is_channels_last=is_channels_last)
    if matrix.data_ptr() != weight.data_ptr():
        # Muon would update a copy, and the weight would not change.
        raise ValueError(f"{name} has no view as a matrix")
    return _Kernel(parameter, nn.Parameter(matrix), is_channels_last)


def _as_matrix(weight: Tensor, *, is_channels_last: bool) -> Tensor:
    """[out, in] unchanged; [out, in, h, w] as a matrix with one row per output, in memory order."""
    return (weight.permute(0, 2, 3, 1) if is_channels_last else weight).flatten(1)
