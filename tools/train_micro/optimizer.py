"""How weights move: matrices and kernels by Muon, everything else by AdamW.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with the step sizes
of Liu et al., "Muon is Scalable for LLM Training" (2025), which let both share one learning rate.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# A matrix with fewer rows or columns has no directions to make alike.
MIN_SIDE = 16


class _Kernel(NamedTuple):
    """A matrix or a kernel, and a view of it as the matrix [out, in] that Muon takes."""

    parameter: nn.Parameter
    matrix: nn.Parameter
    is_channels_last: bool


class MuonAndAdamW:
    """One optimizer in two; ``share`` gives the part of the learning rate that a parameter takes by name.

    Parameters that ``is_vector`` names are AdamW's whatever their shape.  ``weight_decay`` is of Muon's.
    Raises ValueError for a weight whose memory has gaps, or another order than rows or channels last.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        weight_decay: float,
        share: Callable[[str], float],
        is_vector: Callable[[str], bool],
    ) -> None:
        plain: dict[float, list[nn.Parameter]] = {}
        kernels: dict[float, list[_Kernel]] = {}
        for name, parameter in model.named_parameters():
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
        self._muon = torch.optim.Muon(
            [{"params": [k.matrix for k in group], "share": part} for part, group in kernels.items()],
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )

    def step(self, learning_rate: float) -> None:
        """Move all parameters by their gradients; ``learning_rate`` is of a share of 1."""
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
        """What :meth:`load_state_dict` takes."""
        return {"adamw": self._adamw.state_dict(), "muon": self._muon.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an optimizer of the same model; raises ValueError for another's."""
        self._adamw.load_state_dict(state["adamw"])
        self._muon.load_state_dict(state["muon"])


def _kernel(name: str, parameter: nn.Parameter) -> _Kernel:
    weight = parameter.data
    is_channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    matrix = _as_matrix(weight, is_channels_last=is_channels_last)
    if matrix.data_ptr() != weight.data_ptr():
        # Muon would move a copy, and the weight would stand still.
        raise ValueError(f"{name} cannot be seen as a matrix")
    return _Kernel(parameter, nn.Parameter(matrix), is_channels_last)


def _as_matrix(weight: Tensor, *, is_channels_last: bool) -> Tensor:
    """[out, in] as it is, and [out, in, h, w] with a row for each output in the order of its memory."""
    return (weight.permute(0, 2, 3, 1) if is_channels_last else weight).flatten(1)
