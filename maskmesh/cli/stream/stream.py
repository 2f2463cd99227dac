"""``maskmesh stream``: tracking of objects through a live source by a gateway."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from opentelemetry.trace import get_current_span
from rich.text import Text

from maskmesh.cli.media.live_source import LiveFrame, LiveSource
from maskmesh.cli.records.recorder import recording
from maskmesh.cli.run import console, reason_of, say, warn
from maskmesh.cli.segment.segment import say_model
from maskmesh.cli.stream.job import StreamJob
from maskmesh.cli.stream.output import StreamOutput
from maskmesh.cli.stream.progress import StreamProgress
from maskmesh.cli.stream.terminal import showing
from maskmesh.cli.stream.typed_commands import StreamControl, TypedCommands
from maskmesh.client.async_client import AsyncClient
from maskmesh.client.live.live_stream import LiveStream
from maskmesh.client.live.overload import Overload
from maskmesh.errors import MaskmeshError
from maskmesh.records.summary import StreamSummary

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
    async with recording(job.records, "stream", client) as recorder:
        progress = StreamProgress(recorder)
        run = _StreamRun(job, source, progress)
        try:
            await run.run(client)
        except BaseException as error:
            _say_results(job, progress, run.summary)
            warn(f"ended after {progress.count} frames: {reason_of(error)}")
            raise
        _say_results(job, progress, run.summary)


def _say_results(job: StreamJob, progress: StreamProgress, summary: StreamSummary | None) -> None:
    for seconds in progress.prompts:
        say(f"prompted in {seconds * 1000:.0f} ms")
    for line in progress.summary(summary):
        say(line)
    files = (
        ("overlay", job.output),
        ("masks", job.masks),
        ("tracks", job.tracks),
        ("motion", job.motion),
    )
    for name, path in files:
        if path is not None and progress.count:
            say(f"{name}: {path}")


class _StreamRun:
    """One stream: sending, receiving, and the commands that are typed meanwhile."""

    def __init__(self, job: StreamJob, source: LiveSource, progress: StreamProgress) -> None:
        self.summary: StreamSummary | None = None
        self._job = job
        self._source = source
        self._progress = progress
        self._control = StreamControl()
        titles = {number: concept.title for number, concept in enumerate(job.concepts, start=1)}
        self._output = StreamOutput(titles)

    async def run(self, client: AsyncClient) -> None:
        """Stream until the source ends, or the user does."""
        job = self._job
        default: Overload = "skip" if self._source.is_live else "wait"
        stream = client.stream(
            overload=job.overload or default,
            budget=job.records.budget,
            motion_gate=job.motion_gate,
            motion=job.motion_options,
            on_rejected=self._rejected,
        )
        async with AsyncExitStack() as stack, stream as live:
            assert live.model is not None, "an open stream has a model"
            await self._output.open(job, self._source, stack)
            say_model(live.model)
            commands = TypedCommands(
                live,
                self._control,
                concept_options=job.concept_options,
                next_concept=len(job.concepts) + 1,
                next_point=1 if job.grid is None else job.grid[0] * job.grid[1] + 1,
            )
            self._progress.started = time.perf_counter()
            await stack.enter_async_context(
                showing(self._line, commands.run, commands=job.commands, stop=self._control.stop)
            )
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(live))
                async for result in live:
                    await self._output.received(result)
                    self._progress.take(result)
            self.summary = live.summary
            if (failure := sending.result()) is not None:
                raise failure

    def _line(self) -> str:
        self._progress.is_paused = self._control.is_paused
        return self._progress.line()

    def _rejected(self, sequence: int, error: MaskmeshError) -> None:
        self._progress.rejected += 1
        warn(f"frame {sequence} was rejected: {error}")

    async def _send(self, live: LiveStream) -> OSError | None:
        """Send frames as the source yields them, and each prompt after its frame; returns the source's
        error.
        """
        prompts = self._prompts(live)
        failure: OSError | None = None
        waited_seconds = 0.0
        frames = self._frames()
        # An error of a prompt ends the command.
        async with asyncio.TaskGroup() as prompting:
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
                self._output.sent(sequence, frame)
                self._progress.sent[sequence] = time.perf_counter()
                await live.send(frame.pixels)
                self._control.has_sent.set()
                for prompting_call in prompts.pop(sequence, ()):
                    prompting.create_task(self._timed(prompting_call))
                    # Let the task send the prompt before the next frame, which is then tracked with it.
                    await asyncio.sleep(0)
        get_current_span().set_attribute("maskmesh.wait.source.ms", waited_seconds * 1000)
        await live.finish()
        if prompts:
            late = ", ".join(str(frame) for frame in sorted(prompts))
            warn(f"the stream ended before frame {late}: its prompts were not sent")
        return failure

    def _prompts(self, live: LiveStream) -> dict[int, list[Callable[[], Awaitable[object]]]]:
        """The calls that prompt, by the frame that they follow."""
        calls: dict[int, list[Callable[[], Awaitable[object]]]] = defaultdict(list)
        for (obj_id, frame), prompt in self._job.prompts.items():
            calls[frame].append(
                partial(live.add_prompt, obj_id, points=prompt.points, box=prompt.box, sequence=frame)
            )
        for number, concept in enumerate(self._job.concepts, start=1):
            calls[concept.frame].append(
                partial(
                    live.add_concept,
                    number,
                    concept.concept,
                    sequence=concept.frame,
                    options=self._job.concept_options,
                )
            )
        if (grid := self._job.point_grid) is not None:
            # After the prompts of the frame, one of which may be that of the grid's object.
            frame = self._job.grid_frame
            calls[frame].append(partial(live.add_points, grids=[grid], sequence=frame))
        return calls

    async def _timed(self, call: Callable[[], Awaitable[object]]) -> None:
        """Send a prompt or a concept, and record how long its answer took."""
        start = time.perf_counter()
        await call()
        self._progress.prompts.append(time.perf_counter() - start)

    async def _frames(self) -> AsyncGenerator[LiveFrame, None]:
        """The frames to send: if paced, at --fps or at their own times; none while paused, until stopped."""
        control, source = self._control, self._source
        target = self._job.records.budget.frames_per_second
        interval = 1 / (target or source.frames_per_second or 25.0)
        due = time.perf_counter()
        before: LiveFrame | None = None
        count = 0
        stopping = asyncio.ensure_future(control.is_stopped.wait())
        try:
            while not control.is_stopped.is_set():
                reading = asyncio.ensure_future(source.read())
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    return
                if (frame := reading.result()) is None:
                    return
                if control.is_paused:
                    if source.is_live:
                        continue  # what a camera shows meanwhile is gone
                    await control.is_running.wait()
                    due, before = time.perf_counter(), None
                if self._job.paced:
                    if before is not None:
                        due += interval if target else gap_between(before, frame, otherwise=interval)
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                before = frame
                yield frame
                count += 1
                if count == self._job.max_frames:
                    return
        finally:
            stopping.cancel()


def gap_between(before: LiveFrame, frame: LiveFrame, *, otherwise: float) -> float:
    """Seconds between two frames of a source, ``otherwise`` if it has no times."""
    if before.time is None or frame.time is None:
        return otherwise
    return max(frame.time - before.time, 0.0)
