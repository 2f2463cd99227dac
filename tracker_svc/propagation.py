"""One Track stream: frames come ahead of time, masks go back in order."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextvars import copy_context
from dataclasses import dataclass, replace

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from maskmesh import telemetry, wire
from maskmesh.errors import UNREACHABLE, EmbeddingNotFound, InvalidRequest, Unavailable
from maskmesh.internal.v1 import embedding_pb2, tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.telemetry import metrics
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import types_pb2
from tracker_svc.compute.stepping import Stepper, Tracked
from tracker_svc.compute.tracker import Frame, Step
from tracker_svc.embeddings.embedding_store import EmbeddingStore
from tracker_svc.memory.memory_horizon import require_history_before
from tracker_svc.sessions.session import Position, Session
from tracker_svc.sessions.session_registry import SessionRegistry

# How often an embedding is asked for again before the propagation gives up.
MAX_ATTEMPTS = 3


@dataclass(slots=True)
class _Item:
    """One frame that was received."""

    frame_index: int
    ref: EmbeddingRef
    span: Span
    received_ns: int
    prefetch: "asyncio.Task[Frame]"
    ready_ns: int = 0  # when its embedding was here


def _unanswered(frame_index: int) -> EmbeddingNotFound:
    return EmbeddingNotFound("the embedding that was asked for did not come", frame_index=frame_index)


class Propagation:
    """Tracks the frames of one stream.

    The embedding of the next frame is fetched while the current one is computed.  A frame's memory is made
    after its result has left, so that it delays the next frame (whose trace says so) and not this one.  With
    a ``propagation_id`` a frame that was tracked in it before is answered as it is remembered.
    """

    def __init__(
        self,
        session: Session,
        registry: SessionRegistry,
        stepper: Stepper,
        embeddings: EmbeddingStore,
        options: MaskOptions,
        *,
        reverse: bool,
        propagation_id: str = "",
    ) -> None:
        self._session = session
        self._registry = registry
        self._stepper = stepper
        self._embeddings = embeddings
        self._options = options
        self._reverse = reverse
        self._propagation_id = propagation_id
        self._items: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._outgoing: asyncio.Queue[tracker_pb2.TrackResponse | BaseException | None] = asyncio.Queue()
        self._open: dict[int, _Item] = {}
        self._answers: dict[int, asyncio.Future[EmbeddingRef]] = {}
        self._carried: list[telemetry.StageRecord] = []
        self._last_context: Context | None = None
        self._last_received: int | None = None
        self._is_first = True
        self._is_read = False

    @property
    def last_frame_index(self) -> int | None:
        """The last frame that was tracked in this propagation and is remembered."""
        position = self._session.position
        if position is None or not self._propagation_id or position.propagation_id != self._propagation_id:
            return None
        return position.frame_index

    def is_of(self, session: Session, propagation_id: str) -> bool:
        """Whether it is one with a name, and that one."""
        return bool(propagation_id) and (session, propagation_id) == (self._session, self._propagation_id)

    def end(self, error: BaseException) -> None:
        """End with an error after the step that is being taken; what is finished is delivered before."""
        self._outgoing.put_nowait(error)

    async def run(
        self, requests: AsyncIterator[tracker_pb2.TrackRequest]
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        """Answer the messages that follow the configuration."""
        work = [asyncio.ensure_future(w) for w in (self._read(requests), self._work())]
        for task in work:
            task.add_done_callback(self._settled)
        try:
            while (response := await self._outgoing.get()) is not None:
                if isinstance(response, BaseException):
                    raise response
                yield response
        finally:
            for task in work:
                task.cancel()
            # A step that has begun comes to its end: the session is never between two.
            await asyncio.gather(*work, return_exceptions=True)
            telemetry.emit(self._carried, self._last_context)
            for item in self._open.values():
                item.prefetch.cancel()
                item.span.end()

    def _settled(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._outgoing.put_nowait(error)

    async def _work(self) -> None:
        """Take one step after the other."""
        while (item := await self._items.get()) is not None:
            await self._step(item)
        self._outgoing.put_nowait(None)

    async def _read(self, requests: AsyncIterator[tracker_pb2.TrackRequest]) -> None:
        try:
            async for request in requests:
                match request.WhichOneof("content"):
                    case "frame":
                        self._receive(request.frame)
                    case "embedding":
                        answer = self._answers.get(request.embedding.frame_index)
                        if answer is not None and not answer.done():
                            answer.set_result(wire.embedding_ref_from_proto(request.embedding.embedding))
                    case _:
                        raise InvalidRequest("the configuration comes once, first", field="config")
        finally:
            self._is_read = True
            for frame_index, answer in self._answers.items():
                if not answer.done():
                    answer.set_exception(_unanswered(frame_index))
            self._items.put_nowait(None)

    def _receive(self, message: tracker_pb2.TrackFrame) -> None:
        """Begin to fetch the embedding of a frame that will be tracked."""
        received = time.time_ns()
        ref = wire.embedding_ref_from_proto(message.embedding)
        self._embeddings.check(ref)
        if message.frame_index < 0:
            raise InvalidRequest("frames count from 0", field="frame.frame_index")
        if self._last_received is not None:
            ahead = message.frame_index - self._last_received
            if (-ahead if self._reverse else ahead) <= 0:
                raise InvalidRequest("frames come in order", field="frame.frame_index")
        self._last_received = message.frame_index
        span = telemetry.tracer().start_span(
            telemetry.TRACK,
            context=telemetry.context_of(message.traceparent),
            kind=SpanKind.SERVER,
            start_time=received,
            attributes={
                telemetry.FRAME_INDEX: message.frame_index,
                telemetry.SESSION_ID: self._session.session_id,
            },
        )
        prefetch = self._prefetch(ref, span)
        item = _Item(message.frame_index, ref, span, received, prefetch)
        prefetch.add_done_callback(lambda _: setattr(item, "ready_ns", time.time_ns()))
        self._open[message.frame_index] = item
        self._items.put_nowait(item)

    def _prefetch(self, ref: EmbeddingRef, span: Span) -> "asyncio.Task[Frame]":
        """Fetch within the trace of the frame rather than that of the stream."""
        context = copy_context()
        context.run(otel_context.attach, trace.set_span_in_context(span))
        work = self._embeddings.get(ref, since_ns=time.time_ns())
        task = asyncio.get_running_loop().create_task(work, context=context)
        # A failure is dealt with when the frame's turn comes, which may be never.
        task.add_done_callback(lambda t: t.cancelled() or t.exception())
        return task

    async def _step(self, item: _Item) -> None:
        """Everything for one frame: late memories, tracking, the result, its own memory."""
        session, index = self._session, item.frame_index
        frame = await self._obtain(index, item, item.prefetch)
        recorder = self._stepper.tracker.recorder(frame__index=index)
        await self._registry.make_room(session)
        # Who wants to change the session waits for its memory too: a prompt sees all of a frame or nothing.
        async with session.lock:
            self._registry.check(session)
            session.check_prompted()
            if self._was_tracked(index) and await self._repeat(item, frame, recorder):
                return
            if self._is_first:
                objects = list(session.objects.values())
                await asyncio.to_thread(require_history_before, objects, index, reverse=self._reverse)
                self._is_first = False
            for pending in session.pending_frames():
                task = self._prefetch(session.prompted_refs[pending], item.span)
                prompted = await self._obtain(pending, item, task)
                await self._memorize_prompted(pending, prompted, recorder, item)
            commit = asyncio.ensure_future(self._commit(item, frame, recorder))
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await asyncio.wait({commit})
                raise

    async def _commit(self, item: _Item, frame: Frame, recorder: telemetry.StageRecorder) -> None:
        """Track a frame, send the result on its way, and make its memory."""
        index = item.frame_index
        objects = list(self._session.objects.values())
        step = Step(objects, index, frame, recorder, reverse=self._reverse)
        since_ns = None if recorder.records else item.ready_ns
        tracked = await self._stepper.track(step, self._options, tenant=item.ref.tenant, since_ns=since_ns)
        self._session.history.add_tracked(index, reverse=self._reverse)
        await self._answer(item, frame, recorder, tracked)
        # The result leaves before the device is busy again.
        await asyncio.sleep(0)
        kind = telemetry.TRACKED
        memorizing = self._stepper.tracker.recorder(frame__index=index, frame__kind=kind)
        await self._stepper.memorize_tracked(replace(step, recorder=memorizing), tenant=item.ref.tenant)
        self._carried = memorizing.records
        self._session.position = Position(self._propagation_id, index)
        self._registry.note(self._session)

    def _was_tracked(self, frame_index: int) -> bool:
        """Whether a frame was tracked in this propagation before."""
        last = self.last_frame_index
        if last is None:
            return False
        return frame_index >= last if self._reverse else frame_index <= last

    async def _repeat(self, item: _Item, frame: Frame, recorder: telemetry.StageRecorder) -> bool:
        """Answer a frame as it is remembered; whether it is."""
        states = self._session.states_on(item.frame_index)
        if not states:
            return False
        shown = await self._stepper.show(
            states,
            self._options,
            frame,
            recorder,
            tenant=item.ref.tenant,
            since_ns=None if recorder.records else item.ready_ns,
        )
        conditioning = self._session.is_conditioning(item.frame_index)
        await self._answer(item, frame, recorder, Tracked(shown, conditioning))
        return True

    async def _answer(
        self, item: _Item, frame: Frame, recorder: telemetry.StageRecorder, tracked: Tracked
    ) -> None:
        """Send the result of a frame on its way, if the session is still this tracker's."""
        await self._confirm(recorder)
        masks = types_pb2.FrameMasks(
            frame_index=item.frame_index,
            objects=[wire.object_mask_to_proto(mask) for mask in tracked.masks],
            conditioning=tracked.conditioning,
            width=frame.width,
            height=frame.height,
            stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
        )
        sent_ns = recorder.records[-1].end_ns
        self._finish(item, recorder, tracked, sent_ns)
        metrics.count_frame("tracked")
        handling = embedding_pb2.Handling(received_unix_nanos=item.received_ns, sent_unix_nanos=sent_ns)
        result = tracker_pb2.TrackResult(frame=masks, handling=handling)
        self._outgoing.put_nowait(tracker_pb2.TrackResponse(result=result))

    async def _confirm(self, recorder: telemetry.StageRecorder) -> None:
        """Raises StaleEpoch where the session is another tracker's by now."""
        start = time.time_ns()
        if await self._registry.confirm(self._session):
            recorder.add(telemetry.QUEUE, start, time.time_ns(), {telemetry.WAITS_FOR: "session_store"})

    async def _obtain(self, frame_index: int, item: _Item, task: "asyncio.Task[Frame]") -> Frame:
        """The embedding of a frame; the caller is asked for it where it is gone."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                return await task
            except EmbeddingNotFound as error:
                if attempt == MAX_ATTEMPTS - 1 and UNREACHABLE in error.metadata:
                    # Another tracker may reach it, or this one later.
                    cut_off = {UNREACHABLE: error.metadata[UNREACHABLE]}
                    raise Unavailable("an encoder is out of reach", service="encoder", **cut_off) from error
                if attempt == MAX_ATTEMPTS - 1 or self._is_read:
                    raise
            answer: asyncio.Future[EmbeddingRef] = asyncio.get_running_loop().create_future()
            self._answers[frame_index] = answer
            needed = tracker_pb2.EmbeddingNeeded(frame_index=frame_index)
            self._outgoing.put_nowait(tracker_pb2.TrackResponse(embedding_needed=needed))
            try:
                task = self._prefetch(await answer, item.span)
            finally:
                del self._answers[frame_index]
            task.add_done_callback(lambda _: setattr(item, "ready_ns", time.time_ns()))
        raise AssertionError("unreachable")

    async def _memorize_prompted(
        self, frame_index: int, frame: Frame, recorder: telemetry.StageRecorder, item: _Item
    ) -> None:
        objects = list(self._session.objects.values())
        kind = telemetry.CONDITIONING
        made = self._stepper.tracker.recorder(frame__index=frame_index, frame__kind=kind)
        await self._stepper.memorize_prompted(
            Step(objects, frame_index, frame, made),
            waits=recorder,
            tenant=item.ref.tenant,
            since_ns=None if recorder.records else item.ready_ns,
        )
        recorder.records += made.records
        self._session.prompted_refs.pop(frame_index, None)

    def _finish(self, item: _Item, recorder: telemetry.StageRecorder, tracked: Tracked, sent_ns: int) -> None:
        """Close the frame's span over everything that was recorded for it."""
        kind = telemetry.CONDITIONING if tracked.conditioning else telemetry.TRACKED
        for record in recorder.records:
            record.attributes.setdefault(telemetry.FRAME_KIND, kind)
        # What the frame waited for in the queue was, first of all, the memory of the one before it.  What
        # was done before it began to wait held nobody up: it goes to the frame that it is of.
        queue = recorder.records[0]
        queue.children = [r for r in self._carried if r.end_ns > queue.start_ns]
        for record in queue.children:
            record.start_ns = max(record.start_ns, queue.start_ns)
        telemetry.emit_soon([r for r in self._carried if r not in queue.children], self._last_context)
        self._carried = []
        item.span.set_attribute(telemetry.FRAME_KIND, kind)
        item.span.set_attribute(telemetry.OBJECT_COUNT, len(tracked.masks))
        self._last_context = trace.set_span_in_context(item.span)
        telemetry.emit_soon(recorder.records, self._last_context)
        item.span.end(sent_ns)
        del self._open[item.frame_index]
