"""``maskmesh stream``: tracking of objects through a live source by a gateway."""

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
from rich.console import Console

from maskmesh.cli.media import LiveSource, overlay, video_writer
from maskmesh.cli.prompt_options import PromptsByObject
from maskmesh.cli.segment import frame_json, say_model
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.live import LiveResult, LiveStream
from maskmesh.errors import MaskmeshError
from maskmesh.masks import ByteArray, RleMask


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Arguments of one run of the command."""

    source: LiveSource
    prompts: PromptsByObject
    max_frames: int
    skip: bool
    paced: bool
    output: Path | None
    masks: Path | None


@dataclass(slots=True)
class _Record:
    """Measurements for the summary."""

    started: float = field(default_factory=time.perf_counter)
    sent: dict[int, float] = field(default_factory=dict)
    count: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    stage_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    skipped: int = 0
    rejected: int = 0
    prompts: list[float] = field(default_factory=list)

    def take(self, result: LiveResult) -> None:
        """Record one result."""
        self.count += 1
        self.latencies.append(time.perf_counter() - self.sent.pop(result.sequence))
        for sequence in result.skipped:
            self.sent.pop(sequence, None)
        self.skipped += len(result.skipped)
        for stage, seconds in result.frame.stage_seconds.items():
            self.stage_seconds[stage] += seconds

    def lines(self) -> Iterator[str]:
        """The lines of the summary."""
        if not self.latencies:
            yield "no frames were tracked"
            return
        seconds = time.perf_counter() - self.started
        middle, worst = np.percentile(self.latencies, (50, 95)) * 1000
        yield f"{self.count} frames in {seconds:.1f} s ({self.count / seconds:.1f} frames/s)"
        yield f"latency from send to receipt: median {middle:.0f} ms, 95th percentile {worst:.0f} ms"
        yield f"frames without a result: {self.skipped} skipped, {self.rejected} rejected"
        means = (f"{stage} {all_ / self.count * 1000:.1f}" for stage, all_ in self.stage_seconds.items())
        yield f"stages, mean ms: {', '.join(means)}"


class _Output:
    """Writes the overlay and the masks as results arrive."""

    def __init__(self, job: StreamJob, stack: ExitStack) -> None:
        self._pictures: dict[int, ByteArray] = {}
        self._write: Any = None
        self._masks: IO[str] | None = None
        if job.output is not None:
            rate = job.source.frames_per_second
            self._write = stack.enter_context(video_writer(job.output, rate))
        if job.masks is not None:
            self._masks = stack.enter_context(job.masks.open("w"))

    def sent(self, sequence: int, picture: ByteArray) -> None:
        """Keep the image of a sent frame for the overlay."""
        if self._write is not None:
            self._pictures[sequence] = picture

    def received(self, result: LiveResult) -> None:
        """Draw and write a result.  Blocking."""
        if self._write is not None:
            rles = {i: o.mask for i, o in result.frame.objects.items() if isinstance(o.mask, RleMask)}
            self._write(overlay(self._pictures.pop(result.sequence), rles))
            for sequence in [s for s in self._pictures if s < result.sequence]:
                del self._pictures[sequence]
        if self._masks is not None:
            line = {"sequence": result.sequence} | frame_json(result.frame)
            self._masks.write(json.dumps(line) + "\n")


async def stream(job: StreamJob, client: AsyncClient, console: Console) -> None:
    """Track the objects of the job's live source."""
    record = _Record()

    def rejected(sequence: int, error: MaskmeshError) -> None:
        record.rejected += 1
        console.print(f"[yellow]frame {sequence} was rejected: {error}[/yellow]")

    with ExitStack() as stack:
        output = _Output(job, stack)
        async with client.stream(skip=job.skip, on_rejected=rejected) as live:
            assert live.model is not None, "an open stream has a model"
            say_model(live.model, console)
            record.started = time.perf_counter()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_send(job, live, record, output, console))
                    await _receive(live, record, output, console)
            except* (MaskmeshError, OSError) as failures:
                raise failures.exceptions[0] from None
    for milliseconds in record.prompts:
        console.print(f"prompted in {milliseconds:.0f} ms")
    for line in record.lines():
        console.print(line)
    for name, path in (("overlay", job.output), ("masks", job.masks)):
        if path is not None:
            console.print(f"{name}: {path}")


async def _receive(live: LiveStream, record: _Record, output: _Output, console: Console) -> None:
    with console.status("waiting for the first frame") as status:
        async for result in live:
            record.take(result)
            await asyncio.to_thread(output.received, result)
            rate = record.count / (time.perf_counter() - record.started)
            status.update(
                f"frame {result.sequence}: {rate:.1f} frames/s, {len(result.frame.objects)} objects, "
                f"{record.latencies[-1] * 1000:.0f} ms behind, {record.skipped} skipped"
            )


async def _send(job: StreamJob, live: LiveStream, record: _Record, output: _Output, console: Console) -> None:
    """Send frames as the source yields them, and each prompt after its frame."""
    prompts: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for (obj_id, frame_index), prompt in job.prompts.items():
        prompts[frame_index].append((obj_id, prompt))
    prompting: set[asyncio.Task[None]] = set()
    async with aclosing(_pictures(job)) as pictures:
        async for picture in pictures:
            sequence = live.next_sequence
            output.sent(sequence, picture)
            record.sent[sequence] = time.perf_counter()
            await live.send(picture)
            for finished in [task for task in prompting if task.done()]:
                prompting.remove(finished)
                await finished  # an error of a prompt ends the command
            for obj_id, prompt in prompts.pop(sequence, ()):
                task = asyncio.ensure_future(_prompt(live, sequence, obj_id, prompt, record))
                prompting.add(task)
                # Let the task send the prompt before the next frame, which is then tracked with it.
                await asyncio.sleep(0)
    await asyncio.gather(*prompting)
    await live.finish()
    if prompts:
        late = ", ".join(str(frame) for frame in sorted(prompts))
        console.print(f"[yellow]the stream ended before frame {late}: its prompts were not sent[/yellow]")


async def _prompt(live: LiveStream, sequence: int, obj_id: int, prompt: Any, record: _Record) -> None:
    start = time.perf_counter()
    await live.add_prompt(obj_id, points=prompt.points, box=prompt.box, sequence=sequence)
    record.prompts.append((time.perf_counter() - start) * 1000)


async def _pictures(job: StreamJob) -> AsyncGenerator[ByteArray, None]:
    """The frames of the source, decoded one frame ahead on another thread; at the frame rate if paced."""
    frames = job.source.frames()
    start, count = time.perf_counter(), 0
    try:
        following = asyncio.ensure_future(asyncio.to_thread(next, frames, None))
        while (picture := await following) is not None:
            count += 1
            if job.paced:
                due = start + (count - 1) / (job.source.frames_per_second or 25.0)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if count == job.max_frames:
                yield picture
                return
            following = asyncio.ensure_future(asyncio.to_thread(next, frames, None))
            yield picture
    finally:
        # The thread must have finished decoding before the source is closed.
        await asyncio.wait({following})
        job.source.close()


def check_job(job: StreamJob) -> None:
    """Raises UsageError if a prompt belongs to a frame that is never sent."""
    late = [frame for _, frame in job.prompts if job.max_frames and frame >= job.max_frames]
    if late:
        raise click.UsageError(f"--frame {late[0]} is not among the first {job.max_frames}")
