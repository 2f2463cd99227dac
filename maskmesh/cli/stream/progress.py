"""What a run of ``maskmesh stream`` has measured so far, and the lines that tell it."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from maskmesh.cli.records.recorder import Recorder
from maskmesh.client.live.live_result import LiveResult
from maskmesh.records.budget import WindowRecord
from maskmesh.records.summary import MODEL, TOTAL, StreamSummary

# The frame rate that is shown is that of so many last results.
RECENT = 30


@dataclass(slots=True)
class StreamProgress:
    """Counts and latencies of a stream, as the command sees them."""

    recorder: Recorder
    started: float = field(default_factory=time.perf_counter)
    sent: dict[int, float] = field(default_factory=dict)
    """When each frame without a result was sent, by its number."""
    count: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    skipped: int = 0
    rejected: int = 0
    max_newer_frames: int = 0
    prompts: list[float] = field(default_factory=list)
    """Seconds that each prompt took."""
    is_paused: bool = False
    objects: list[int] = field(default_factory=list)
    """The objects of the last result."""
    window: WindowRecord | None = None
    _num_ok: int = 0
    _num_windows: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def take(self, result: LiveResult) -> None:
        """Record one result, and the window that it completes."""
        now = time.perf_counter()
        self.count += 1
        sent = self.sent.pop(result.sequence)
        self.latencies.append(now - sent)
        self._recent.append(now)
        for sequence in result.skipped:
            self.sent.pop(sequence, None)
        self.skipped += len(result.skipped)
        self.max_newer_frames = max(self.max_newer_frames, result.newer_frames)
        self.objects = list(result.frame.objects)
        self.recorder.add_result(sent, now, gated=result.gated)
        if result.window is not None and result.window.last_sequence == result.sequence:
            self.window = result.window
            self._num_windows += 1
            self._num_ok += result.window.status == "OK"
            self.recorder.add_window(result.window)

    def line(self) -> str:
        """The state of the stream in one line."""
        if not self._recent:
            return "waiting for the first result"
        parts = [f"frame {self.count}", f"{self._rate():.1f} frames/s"]
        if (window := self.window) is not None and window.budget is not None and window.slack is not None:
            ratio = self._num_ok / self._num_windows
            parts.append(
                f"budget {window.budget * 1000:.0f} ms, slack {window.slack * 1000:+.0f} ms, "
                f"{window.status} ({ratio:.0%} OK)"
            )
        parts.append(f"{_objects(self.objects)}")
        parts.append(f"{self.latencies[-1] * 1000:.0f} ms behind, {self.skipped} skipped")
        if self.is_paused:
            parts.append("paused")
        return " | ".join(parts)

    def _rate(self) -> float:
        if len(self._recent) < 2:
            return 0.0
        return (len(self._recent) - 1) / (self._recent[-1] - self._recent[0])

    def summary(self, found: StreamSummary | None) -> Iterator[str]:
        """The lines of the summary; ``found`` is that of the gateway if the stream came to its end."""
        if not self.count:
            yield "no frames were tracked"
            return
        seconds = time.perf_counter() - self.started
        middle, worst = np.percentile(self.latencies, (50, 95)) * 1000
        yield f"{self.count} frames in {seconds:.1f} s ({self.count / seconds:.1f} frames/s)"
        yield f"latency from send to receipt: median {middle:.0f} ms, 95th percentile {worst:.0f} ms"
        yield (
            f"frames without a result: {self.skipped} skipped, {self.rejected} rejected; "
            f"results were at most {self.max_newer_frames} frames behind the newest"
        )
        run = self.recorder.statistics.summary()
        if run.first is not None:
            yield f"first window: {run.first.total * 1000:.0f} ms"
        if TOTAL in run.times:
            total, model = run.times[TOTAL], run.times[MODEL]
            yield (
                f"windows: median {total.p50 * 1000:.0f} ms, 95th percentile {total.p95 * 1000:.0f} ms, "
                f"the model alone {model.p50 * 1000:.0f} ms"
            )
        if self.window is not None and self.window.budget is not None:
            budget = self.window.budget * 1000
            yield f"budget {budget:.0f} ms: {run.ok_windows} of {run.windows} windows OK"
        if found is not None and found.gate_threshold:
            yield (
                f"motion gate at {found.gate_threshold:g} grey levels: {found.run.gated_frames} of "
                f"{found.run.frames} encodes saved"
            )
        means = (
            f"{name} {times.mean * 1000:.1f}"
            for name, times in run.times.items()
            if name not in ("total", "latency", "slack", "model")
        )
        yield f"stages of a window, mean ms: {', '.join(means)}"


def _objects(obj_ids: list[int]) -> str:
    if not obj_ids:
        return "no objects"
    shown = ", ".join(str(obj_id) for obj_id in obj_ids[:8])
    return f"{'object' if len(obj_ids) == 1 else 'objects'} {shown}{', ...' if len(obj_ids) > 8 else ''}"
