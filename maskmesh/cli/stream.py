"""``maskmesh stream``: tracking of objects through a live source by a gateway."""

import asyncio
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import click
import numpy as np
from opentelemetry.trace import get_current_span
from rich.text import Text

from maskmesh.cli.media.live_source import LiveFrame, LiveSource, source_files
from maskmesh.cli.media.outputs import check_outputs, check_suffix, frame_json, rle_masks
from maskmesh.cli.media.overlay import OverlayThread, VideoWriter, concept_labels
from maskmesh.cli.prompt_options import FrameConcept, PromptsByObject
from maskmesh.cli.run import console, reason_of, say, warn
from maskmesh.cli.segment import say_model
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.live import LiveResult, LiveStream
from maskmesh.concepts import ConceptOptions
from maskmesh.errors import MaskmeshError


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Arguments of one run of the command."""

    source: str
    prompts: PromptsByObject
    concepts: Sequence[FrameConcept]
    concept_options: ConceptOptions
    max_frames: int
    skip: bool | None
    """Whether to skip frames that come too fast; None means only those of cameras and URLs."""
    paced: bool
    max_silence: float
    """Seconds without a frame after which the command ends."""
    output: Path | None
    masks: Path | None


def check_job(job: StreamJob) -> None:
    """Check all that can be checked before a mesh is started.  Raises UsageError."""
    named = [frame for _, frame in job.prompts] + [concept.frame for concept in job.concepts]
    late = [frame for frame in named if job.max_frames and frame >= job.max_frames]
    if late:
        raise click.UsageError(f"--frame {late[0]} is not among the first {job.max_frames}")
    inputs = source_files(job.source)
    if inputs == []:
        raise click.UsageError(f"there is no file {job.source}")
    check_outputs(inputs or [], {"--output": job.output, "--masks": job.masks})
    check_suffix("--output", job.output, is_video=True)


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
    """Writes the overlay and the masks as results arrive; both files are valid whenever the context ends."""

    def __init__(self, titles: Mapping[int, str]) -> None:
        """``titles`` are those of the concepts, by ``concept_id``."""
        self._titles = titles
        self._frames: dict[int, LiveFrame] = {}
        self._overlay: OverlayThread | None = None
        self._masks: IO[str] | None = None
        self._first: float | None = None

    async def open(self, job: StreamJob, source: LiveSource, stack: AsyncExitStack) -> None:
        """Open the files of the job until the end of ``stack``.  Raises OSError."""
        if job.masks is not None:
            self._masks = stack.enter_context(job.masks.open("w"))
        if job.output is not None:
            writer = VideoWriter(job.output, frames_per_second=source.frames_per_second)
            self._overlay = await stack.enter_async_context(OverlayThread(writer))

    def sent(self, sequence: int, frame: LiveFrame) -> None:
        """Keep a sent frame for the overlay."""
        if self._overlay is not None:
            self._frames[sequence] = frame

    async def received(self, result: LiveResult) -> None:
        """Write a result, and draw it on the overlay's thread.  Raises OSError."""
        if self._masks is not None:
            line = {"sequence": result.sequence} | frame_json(result.frame)
            self._masks.write(json.dumps(line) + "\n")
            self._masks.flush()
        if self._overlay is not None:
            frame = self._frames.pop(result.sequence)
            if self._first is None:
                self._first = frame.time
            time = None if frame.time is None or self._first is None else frame.time - self._first
            objects = result.frame.objects
            labels = concept_labels(objects, self._titles)
            await self._overlay.submit(lambda: frame.pixels, rle_masks(objects), time, labels)
            for sequence in [s for s in self._frames if s < result.sequence]:
                del self._frames[sequence]


Work = Callable[[AsyncClient], Awaitable[None]]


async def stream_source(job: StreamJob, with_client: Callable[[Work], Awaitable[None]]) -> None:
    """Open the job's source, and track its objects with the client that ``with_client`` provides.

    Raises OSError if the source cannot be opened, or is silent for too long.
    """

    def report(seconds: float) -> None:
        warn(f"nothing has come from {job.source} for {seconds:.0f} s")

    source = LiveSource(job.source, max_silence=job.max_silence, on_silence=report)
    try:
        with console.status(Text(f"opening {job.source}")):
            await source.open()
        await with_client(lambda client: _stream(job, source, client))
    finally:
        source.close()


async def _stream(job: StreamJob, source: LiveSource, client: AsyncClient) -> None:
    record = _Record()

    def rejected(sequence: int, error: MaskmeshError) -> None:
        record.rejected += 1
        warn(f"frame {sequence} was rejected: {error}")

    skip = source.is_live if job.skip is None else job.skip
    try:
        output = _Output({number: concept.title for number, concept in enumerate(job.concepts, start=1)})
        async with AsyncExitStack() as stack, client.stream(skip=skip, on_rejected=rejected) as live:
            assert live.model is not None, "an open stream has a model"
            await output.open(job, source, stack)
            say_model(live.model)
            record.started = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(_send(job, source, live, record, output))
                await _receive(live, record, output)
            if (failure := sending.result()) is not None:
                raise failure
    except BaseException as error:
        _say_results(job, record)
        warn(f"ended after {record.count} frames: {reason_of(error)}")
        raise
    _say_results(job, record)


def _say_results(job: StreamJob, record: _Record) -> None:
    for milliseconds in record.prompts:
        say(f"prompted in {milliseconds:.0f} ms")
    for line in record.lines():
        say(line)
    for name, path in (("overlay", job.output), ("masks", job.masks)):
        if path is not None and record.count:
            say(f"{name}: {path}")


async def _receive(live: LiveStream, record: _Record, output: _Output) -> None:
    with console.status("waiting for the first frame") as status:
        async for result in live:
            await output.received(result)
            record.take(result)
            rate = record.count / (time.perf_counter() - record.started)
            status.update(
                f"frame {result.sequence}: {rate:.1f} frames/s, {len(result.frame.objects)} objects, "
                f"{record.latencies[-1] * 1000:.0f} ms behind, {record.skipped} skipped"
            )


async def _send(
    job: StreamJob, source: LiveSource, live: LiveStream, record: _Record, output: _Output
) -> OSError | None:
    """Send frames as the source yields them, and each prompt after its frame; returns the source's error."""
    prompts: dict[int, list[Callable[[], Awaitable[object]]]] = defaultdict(list)
    for (obj_id, frame_index), prompt in job.prompts.items():
        prompts[frame_index].append(
            partial(live.add_prompt, obj_id, points=prompt.points, box=prompt.box, sequence=frame_index)
        )
    for number, concept in enumerate(job.concepts, start=1):
        prompts[concept.frame].append(
            partial(
                live.add_concept,
                number,
                concept.concept,
                sequence=concept.frame,
                options=job.concept_options,
            )
        )
    prompting: set[asyncio.Task[None]] = set()
    failure: OSError | None = None
    frames = _frames(job, source)
    waited_seconds = 0.0
    while True:
        start = time.perf_counter()
        try:
            frame = await anext(frames)
        except StopAsyncIteration:
            break
        except OSError as error:
            # The results of the frames that were sent come before the error.
            failure = error
            break
        waited_seconds += time.perf_counter() - start
        sequence = live.next_sequence
        output.sent(sequence, frame)
        record.sent[sequence] = time.perf_counter()
        await live.send(frame.pixels)
        for finished in [task for task in prompting if task.done()]:
            prompting.remove(finished)
            await finished  # an error of a prompt ends the command
        for prompting_call in prompts.pop(sequence, ()):
            task = asyncio.ensure_future(_timed(prompting_call, record))
            prompting.add(task)
            # Let the task send the prompt before the next frame, which is then tracked with it.
            await asyncio.sleep(0)
    await asyncio.gather(*prompting)
    get_current_span().set_attribute("maskmesh.wait.source.ms", waited_seconds * 1000)
    await live.finish()
    if prompts:
        late = ", ".join(str(frame) for frame in sorted(prompts))
        warn(f"the stream ended before frame {late}: its prompts were not sent")
    return failure


async def _timed(call: Callable[[], Awaitable[object]], record: _Record) -> None:
    """Send a prompt or a concept, and record how long its answer took."""
    start = time.perf_counter()
    await call()
    record.prompts.append((time.perf_counter() - start) * 1000)


async def _frames(job: StreamJob, source: LiveSource) -> AsyncGenerator[LiveFrame, None]:
    """The frames of the source, at its frame rate if paced."""
    start, count = time.perf_counter(), 0
    while (frame := await source.read()) is not None:
        if job.paced:
            due = start + count / (source.frames_per_second or 25.0)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        yield frame
        count += 1
        if count == job.max_frames:
            return
