"""Preemption of a model: interactive work interrupts a forward pass at the pause points between its
blocks.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from maskmesh.telemetry import StageRecorder


def _continue() -> None:
    """The action of a pause point that nobody set."""


class PausePoint(nn.Module):
    """A module without weights that a model calls between blocks of its work.

    So layers only compute, and the service decides what happens at their pause points.
    """

    def __init__(self) -> None:
        super().__init__()
        self.action: Callable[[], object] = _continue

    def forward(self) -> None:
        """Run the action."""
        self.action()


class Preemption:
    """Runs urgent work at the pause points of a model, and records it as waits of the interrupted stage."""

    def __init__(self, model: nn.Module, run_urgent_work: Callable[[], bool]) -> None:
        """``run_urgent_work`` returns whether there was any; called on the thread of the model."""
        self._run_urgent_work = run_urgent_work
        self._recorders: Sequence[StageRecorder] = ()
        for module in model.modules():
            if isinstance(module, PausePoint):
                module.action = self.pause

    @contextmanager
    def enabled(self, recorders: Sequence[StageRecorder]) -> Iterator[None]:
        """Let urgent work interrupt the body; ``recorders`` are those of its stage."""
        self._recorders = recorders
        try:
            yield
        finally:
            self._recorders = ()

    def pause(self) -> None:
        """Run urgent work, if the present work may be interrupted."""
        if not (recorders := self._recorders):
            return
        self._recorders = ()  # urgent work is not interrupted
        start_ns = time.time_ns()
        if self._run_urgent_work():
            end_ns = time.time_ns()
            for recorder in recorders:
                recorder.wait(start_ns, end_ns, "click")
        self._recorders = recorders
