"""The update of each kind of weight by MuonAndAdamW, in place."""

import pytest
import torch
from torch import Tensor, nn

from tools.train_micro.muon import Muon
from tools.train_micro.optimizer import MuonAndAdamW

RATE = 0.01


def channels_last(layer: nn.Conv2d) -> nn.Conv2d:
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer


def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    made = nn.ModuleDict(
        {
            "linear": nn.Linear(24, 32),
            "kernel": nn.Conv2d(16, 24, 3),
            "last": channels_last(nn.Conv2d(16, 24, 3)),
            "narrow": nn.Linear(3, 40),
            "token": nn.Embedding(20, 32),
        }
    )
    for parameter in made.parameters():
        parameter.grad = torch.randn_like(parameter)
    return made


def optimizer(of: nn.Module, *, frozen: str = "nothing") -> MuonAndAdamW:
    return MuonAndAdamW(
        of,
        weight_decay=0.0,
        share=lambda name: 0.0 if name.startswith(frozen) else 1.0,
        is_vector=lambda name: name.startswith("token"),
        dtype=torch.float32,
    )


def moved(of: nn.Module, by: MuonAndAdamW) -> dict[str, Tensor]:
    before = {name: p.detach().clone() for name, p in of.named_parameters()}
    by.step(RATE)
    return {name: p.detach() - before[name] for name, p in of.named_parameters()}


def test_matrices_use_muon_and_other_weights_adamw() -> None:
    made = model()
    steps = moved(made, optimizer(made))
    for name in ("linear.weight", "kernel.weight", "last.weight"):
        scales = torch.linalg.svdvals(steps[name].flatten(1))
        assert float(scales.max() / scales.min()) < 3, name
    for name in ("linear.bias", "narrow.weight", "token.weight"):
        # The first step of AdamW has the same size for every element.
        torch.testing.assert_close(
            steps[name].abs(), torch.full_like(steps[name], RATE), rtol=1e-3, atol=1e-5
        )


def test_memory_format_of_a_kernel_does_not_matter() -> None:
    made = model()
    weights = dict(made.named_parameters())
    plain, last = weights["kernel.weight"], weights["last.weight"]
    assert plain.grad is not None
    last.data.copy_(plain.data)
    last.grad = plain.grad.clone(memory_format=torch.channels_last)
    steps = moved(made, optimizer(made))
    torch.testing.assert_close(steps["last.weight"], steps["kernel.weight"], rtol=0.05, atol=1e-4)


def test_zero_share_freezes_weights() -> None:
    made = model()
    steps = moved(made, optimizer(made, frozen="linear"))
    assert not steps["linear.weight"].any()
    assert not steps["linear.bias"].any()
    assert steps["kernel.weight"].all()


def test_optimizer_state_can_be_restored() -> None:
    whole, parts = model(), model()
    one, first = optimizer(whole), optimizer(parts)
    one.step(RATE)
    first.step(RATE)
    second = optimizer(parts)
    second.load_state_dict(first.state_dict())
    one.step(RATE)
    second.step(RATE)
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_non_contiguous_weight_is_refused() -> None:
    made = model()
    weight = dict(made.named_parameters())["kernel.weight"]
    weight.data = weight.data.transpose(2, 3)
    with pytest.raises(ValueError, match=r"kernel\.weight"):
        optimizer(made)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_muon_in_bfloat16_equals_that_of_torch(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(3, *shape)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    by = (
        Muon([{"params": [ours]}], weight_decay=0.1, dtype=torch.bfloat16),
        torch.optim.Muon([theirs], lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for gradient in gradients:
        for parameter, optimizer in zip((ours, theirs), by, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)
