"""The training loop: steps, moving averages, a log, and checkpoints to resume from."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from maskmesh.nn.dtype import bfloat16_of, choose_dtype
from tools.train_micro.micro import Micro, export, is_embedding
from tools.train_micro.optimizer import MuonAndAdamW

# On a CPU, plain products are faster in the forward and backward pass than the fused kernel, whose tiles
# suit more tokens and wider heads.
ATTENTION = {
    "cpu": [SDPBackend.MATH],
    "cuda": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"

# Maximum number of consecutive steps without a finite gradient.
MOST_SKIPPED = 20

LossFunction = Callable[[Micro, dict[str, Tensor], torch.Generator], dict[str, Tensor]]
Figures = dict[str, float]
Validation = Callable[[Micro], Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The hyperparameters of one phase.

    ``image_size`` is in pixels; ``steps``, ``warm_up``, ``save_every`` and ``validate_every`` are numbers
    of steps; ``average`` is the maximum decay of the moving average (it is lower in the first steps).
    """

    name: str
    image_size: int
    steps: int
    batch: int
    learning_rate: float
    final_rate: float = 0.02  # factor of the learning rate at the end
    encoder_rate: float = 1.0  # factor of the learning rate for the image encoder
    warm_up: int = 300
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    average: float = 0.999
    save_every: int = 200
    validate_every: int = 500
    frozen_norms: bool = False
    frozen_encoder: bool = False


def _rate(plan: Plan, step: int) -> float:
    """The factor of the learning rate: linear warm-up, then cosine decay."""
    if step < plan.warm_up:
        return (step + 1) / plan.warm_up
    progress = (step - plan.warm_up) / max(plan.steps - plan.warm_up, 1)
    falling = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return plan.final_rate + (1 - plan.final_rate) * falling


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is faster than float32."""
    choice = choose_dtype("auto", device=device.type, bfloat16=bfloat16_of(device))
    return torch.bfloat16 if choice.name == "bfloat16" else torch.float32


def mixed_precision(device: torch.device) -> torch.autocast:
    """Computation in bfloat16 where it is faster than float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_dtype(device) == torch.bfloat16)


class Trainer:
    """Trains one phase, and resumes from the checkpoint in its folder.

    Raises ValueError if the checkpoint has another plan or seed.
    """

    def __init__(self, plan: Plan, model: Micro, folder: Path, *, seed: int, device: torch.device) -> None:
        self.plan, self.folder, self.seed, self.device = plan, folder, seed, device
        self.model = model.to(device)
        self.model.encoder.requires_grad_(not plan.frozen_encoder)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = MuonAndAdamW(
            self.model,
            weight_decay=plan.weight_decay,
            share=lambda name: plan.encoder_rate if name.startswith("encoder.") else 1.0,
            is_vector=is_embedding,
            dtype=fast_dtype(device),
        )
        self.step = 0
        self.seconds = 0.0
        self._skipped = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._restore()

    def run(
        self, data: Dataset[dict[str, Tensor]], loss_of: LossFunction, validate: Validation, *, workers: int
    ) -> None:
        """Train to the end of the plan; can be interrupted at any time.

        Raises FloatingPointError if the gradients of many consecutive steps are not finite.
        """
        plan = self.plan
        if self.finished:
            return
        started, before = time.monotonic(), self.seconds
        for batch in self._batches(data, workers):
            losses = self._train(batch, loss_of)
            self.step += 1
            self.seconds = before + time.monotonic() - started
            if self.step % 20 == 0:
                self._log(losses)
            if self.step % plan.validate_every == 0 or self.step == plan.steps:
                self._log({f"validation_{k}": v for k, v in self._validated(validate).items()})
            if self.step % plan.save_every == 0 or self.step == plan.steps:
                self._save()

    def _train(self, batch: dict[str, Tensor], loss_of: LossFunction) -> dict[str, float]:
        plan = self.plan
        self.model.train()
        if plan.frozen_norms:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        batch = {k: v.to(self.device) for k, v in batch.items()}
        # The generator depends on the step, so that a resumed run equals an uninterrupted run.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        with mixed_precision(self.device), sdpa_kernel(ATTENTION[self.device.type]):
            losses = loss_of(self.model, batch, generator)
        total = torch.stack(list(losses.values())).sum()
        self.model.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), plan.clip_norm)
        if math.isfinite(float(norm)):
            self._skipped = 0
            self.optimizer.step(plan.learning_rate * _rate(plan, self.step))
            self._move_average()
        else:
            self._skipped += 1
            if self._skipped > MOST_SKIPPED:
                raise FloatingPointError(f"the gradient at step {self.step} is {float(norm)} again")
        figures = {"loss": total, "norm": norm, **losses}
        return {name: float(value.detach()) for name, value in figures.items()}

    @torch.no_grad()
    def _move_average(self) -> None:
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        ours = [v for v in self.average.state_dict().values() if v.is_floating_point()]
        theirs = [v for v in self.model.state_dict().values() if v.is_floating_point()]
        torch._foreach_lerp_(ours, theirs, 1 - keep)

    def _validated(self, validate: Validation) -> dict[str, float]:
        with mixed_precision(self.device):
            figures = validate(self.average)
        export(self.average, self.folder / "micro.safetensors")
        return figures

    def _batches(self, data: Dataset[dict[str, Tensor]], workers: int) -> Iterator[dict[str, Tensor]]:
        size = self.plan.batch
        rows = [list(range(step * size, (step + 1) * size)) for step in range(self.step, self.plan.steps)]
        loader = DataLoader(
            data, batch_sampler=rows, num_workers=workers, prefetch_factor=4 if workers else None
        )
        yield from loader

    def _log(self, figures: dict[str, float]) -> None:
        line = {"phase": self.plan.name, "step": self.step, "seconds": round(self.seconds, 1)}
        line |= {k: round(v, 4) for k, v in figures.items()}
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    @staticmethod
    def average_of(folder: Path) -> dict[str, Tensor]:
        """The averaged weights at the end of a phase.

        Raises FileNotFoundError if the phase has no checkpoint, ValueError if it is not finished.
        """
        content = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        if content["step"] < content["plan"]["steps"]:
            raise ValueError(f"the training in {folder} is not finished")
        average: dict[str, Tensor] = content["average"]
        return average

    @property
    def finished(self) -> bool:
        """Whether all steps of the plan are done."""
        return self.step >= self.plan.steps

    @property
    def _checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def _save(self) -> None:
        content = {
            "plan": asdict(self.plan),
            "seed": self.seed,
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        # Write to a temporary file and rename it, so that an interruption keeps the last checkpoint intact.
        partial = self._checkpoint.with_suffix(".partial")
        torch.save(content, partial)
        partial.rename(self._checkpoint)

    def _restore(self) -> None:
        if not self._checkpoint.exists():
            return
        content = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        for name, ours in (("plan", asdict(self.plan)), ("seed", self.seed)):
            if content[name] != ours:
                raise ValueError(f"{self.folder} was started with another {name}; choose another folder")
        self.step, self.seconds = content["step"], content["seconds"]
        self.model.load_state_dict(content["model"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        # Drop log lines after the checkpoint, because these steps run again.
        log = self.folder / LOG
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("".join(f"{line}\n" for line in lines if json.loads(line)["step"] <= self.step))
