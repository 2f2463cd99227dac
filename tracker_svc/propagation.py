"""One Track stream: frames are received ahead of time, and masks are sent back in order."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from maskmesh import telemetry, wire
from maskmesh.aio import StreamOutput
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.telemetry import StageRecorder, metrics
from maskmesh.types import EmbeddingRef
from tracker_svc.components import Components
from tracker_svc.compute.mask_output import tracked_masks
from tracker_svc.compute.step import Frame, MaskedStep, Step, Tracked
from tracker_svc.embeddings.stream_embeddings import StreamEmbeddings
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.frame_result import frame_masks, track_result
from tracker_svc.frame_trace import FrameTrace
from tracker_svc.memory.memory_horizon import held_states, require_history_before
from tracker_svc.sessions.concept_changes import begin_following, finish_following
from tracker_svc.sessions.session import Position, Session


@dataclass(slots=True)
class _ReceivedFrame:
    frame_index: int
    ref: EmbeddingRef
    trace: FrameTrace
    prefetch: "asyncio.Task[Frame]"


class Propagation:
    """Tracks the frames of one stream.

    The embedding of the next frame is fetched while the current frame is tracked.  A frame's memory is
    encoded after its result is sent, so it delays the next frame, whose trace includes it.  With a
    ``propagation_id``, the result of a frame that this propagation has already tracked is made from the
    stored states.
    """

    def __init__(
        self,
        components: Components,
        session: Session,
        options: MaskOptions,
        *,
        reverse: bool,
        propagation_id: str = "",
    ) -> None:
        self._session = session
        self._tracker = components.tracker
        self._worker = components.worker
        self._options = options
        self._reverse = reverse
        self._propagation_id = propagation_id
        self._embeddings = StreamEmbeddings(components.embeddings, self._request_embedding)
        self._received: asyncio.Queue[_ReceivedFrame | None] = asyncio.Queue()
        self._output: StreamOutput[tracker_pb2.TrackResponse] = StreamOutput()
        self._in_progress: dict[int, _ReceivedFrame] = {}
        self._last_received: int | None = None
        self._last_trace: FrameTrace | None = None  # of the last frame whose result was sent
        self._is_first = True

    @property
    def last_frame_index(self) -> int | None:
        """The last frame that was tracked in this propagation and memorized."""
        position = self._session.position
        if position is None or not self._propagation_id or position.propagation_id != self._propagation_id:
            return None
        return position.frame_index

    def has_id(self, session: Session, propagation_id: str) -> bool:
        """Whether this is the propagation of a session with a given, non-empty id."""
        return bool(propagation_id) and (session, propagation_id) == (self._session, self._propagation_id)

    def end(self, error: BaseException) -> None:
        """End the stream with an error after the current step; finished results are sent before the
        error.
        """
        self._output.fail(error)

    async def run(
        self, requests: AsyncIterator[tracker_pb2.TrackRequest]
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        """Yield the responses to the messages that follow the configuration."""
        self._output.spawn(self._read(requests))
        self._output.spawn(self._track_all())
        try:
            async for response in self._output:
                yield response
        finally:
            # A step in progress is completed, so that the session is not left with a partial step.
            await self._output.close()
            if self._last_trace is not None:
                self._last_trace.end()
            for received in self._in_progress.values():
                received.prefetch.cancel()
                received.trace.end()

    async def _track_all(self) -> None:
        while (received := await self._received.get()) is not None:
            await self._step(received)
        self._output.finish()

    async def _read(self, requests: AsyncIterator[tracker_pb2.TrackRequest]) -> None:
        try:
            async for request in requests:
                match request.WhichOneof("content"):
                    case "frame":
                        self._receive(request.frame)
                    case "embedding":
                        ref = wire.embedding_ref_from_proto(request.embedding.embedding)
                        self._embeddings.resolve(request.embedding.frame_index, ref)
                    case _:
                        raise InvalidRequest("the configuration must be sent only once", field="config")
        finally:
            self._embeddings.close()
            self._received.put_nowait(None)

    def _receive(self, message: tracker_pb2.TrackFrame) -> None:
        """Check a frame and begin to fetch its embedding."""
        ref = wire.embedding_ref_from_proto(message.embedding)
        self._embeddings.check(ref)
        if message.frame_index < 0:
            raise InvalidRequest("the frame index must not be negative", field="frame.frame_index")
        if self._last_received is not None:
            ahead = message.frame_index - self._last_received
            if (-ahead if self._reverse else ahead) <= 0:
                raise InvalidRequest("frames must be sent in order", field="frame.frame_index")
        self._last_received = message.frame_index
        trace = FrameTrace(
            message.frame_index,
            session_id=self._session.session_id,
            traceparent=message.traceparent,
            clock_offset_ns=message.clock_offset_nanos,
        )
        prefetch = self._embeddings.prefetch(ref, trace)
        prefetch.add_done_callback(lambda _: trace.note_ready())
        received = _ReceivedFrame(message.frame_index, ref, trace, prefetch)
        self._in_progress[message.frame_index] = received
        self._received.put_nowait(received)

    def _request_embedding(self, frame_index: int) -> None:
        embedding_needed = tracker_pb2.EmbeddingNeeded(frame_index=frame_index)
        self._output.put(tracker_pb2.TrackResponse(embedding_needed=embedding_needed))

    async def _step(self, received: _ReceivedFrame) -> None:
        """Process one frame: memorize prompted frames, track, send the result, memorize the frame."""
        session, index, trace = self._session, received.frame_index, received.trace
        frame = await self._embeddings.get(index, received.prefetch, trace)
        recorder = self._tracker.recorder({telemetry.FRAME_INDEX: index})
        begun_ns = time.time_ns()
        trace.ready_ns = trace.ready_ns or begun_ns  # the callback of a fetch that has just ended comes later
        recorder.wait(trace.ready_ns, begun_ns, "previous_frame")
        await session.replicator.wait_for_room()
        recorder.wait(begun_ns, time.time_ns(), "session_store")
        # The lock is held until the frame is memorized, so that a prompt never reads a partial step.
        async with session.locked(recorder):
            session.require_open()
            session.check_prompted()
            if self._was_tracked(index) and await self._repeat(received, frame, recorder):
                return
            if self._is_first:
                objects = list(session.objects.values())
                with recorder.handling(telemetry.PREPARE):
                    await asyncio.to_thread(require_history_before, objects, index, reverse=self._reverse)
                self._is_first = False
            for prompted_index in session.pending_frames():
                prefetch = self._embeddings.prefetch(session.prompted_refs[prompted_index], trace)
                prompted = await self._embeddings.get(prompted_index, prefetch, trace)
                await self._memorize_prompted(prompted_index, prompted, recorder, received)
            commit = asyncio.ensure_future(self._commit(received, frame, recorder))
            try:
                await asyncio.shield(commit)
            except asyncio.CancelledError:
                await asyncio.wait({commit})
                raise

    async def _commit(self, received: _ReceivedFrame, frame: Frame, recorder: StageRecorder) -> None:
        """Track a frame, send the result, and encode its memory."""
        session, index = self._session, received.frame_index
        following = None
        if self._tracker.follower is not None:
            following = begin_following(session, session.concepts.searching)
        objects = list(session.objects.values())
        step = Step(objects, index, frame, recorder, reverse=self._reverse, following=following)
        tracked = await self._worker.run_batched(
            self._tracker.tracking,
            MaskedStep(step, self._options),
            recorder=recorder,
            entry=_queue_entry(received),
        )
        session.history.add_tracked(index, reverse=self._reverse)
        lives = [concept.life for concept in session.concepts.searching]
        if following is not None:
            received.trace.add_decisions(following)
            lives = [decision.life for decision in following.decisions.values()]
        await self._send_result(received, frame, recorder, tracked, lives)
        # The result is sent before the device is busy again.
        await asyncio.sleep(0)
        attributes: telemetry.Attributes = {
            telemetry.FRAME_INDEX: index,
            telemetry.FRAME_KIND: telemetry.TRACKED,
        }
        memory_recorder = self._tracker.recorder(attributes)
        await self._worker.run_batched(
            self._tracker.memorizing,
            replace(step, recorder=memory_recorder),
            entry=_queue_entry(received),
            is_continuation=True,
        )
        if following is not None:
            finish_following(session, following)
        received.trace.set_memory(memory_recorder)
        session.position = Position(self._propagation_id, index)
        session.replicator.enqueue()

    def _was_tracked(self, frame_index: int) -> bool:
        """Whether a frame was tracked in this propagation before."""
        last = self.last_frame_index
        if last is None:
            return False
        return frame_index >= last if self._reverse else frame_index <= last

    async def _repeat(self, received: _ReceivedFrame, frame: Frame, recorder: StageRecorder) -> bool:
        """Send the result of a frame from its stored states; returns False if they are not held."""
        session, index = self._session, received.frame_index
        # They may be in the archive, which is on disk.
        objects = list(session.objects.values())
        states = await asyncio.to_thread(held_states, objects, index)
        # With concepts, a frame on which nothing was found has no states.
        if not states and not session.found_nothing_on(index, reverse=self._reverse):
            return False

        def make_masks() -> Tracked:
            with recorder.stage(telemetry.POSTPROCESS):
                return tracked_masks(index, objects, states, self._options, frame)

        tracked = await self._worker.run(make_masks, recorder=recorder, entry=_queue_entry(received))
        lives = [concept.life for concept in session.concepts.searching]
        await self._send_result(received, frame, recorder, tracked, lives)
        return True

    async def _send_result(
        self,
        received: _ReceivedFrame,
        frame: Frame,
        recorder: StageRecorder,
        tracked: Tracked,
        lives: Sequence[Lifecycle],
    ) -> None:
        """Send the result of a frame; ``lives`` are those of the objects of concepts, after the frame.

        Raises StaleEpoch if another tracker owns the session now.
        """
        start_ns = time.time_ns()
        if await self._session.replicator.confirm():
            recorder.wait(start_ns, time.time_ns(), "session_store")
        sent_ns = recorder.records[-1].end_ns
        masks = frame_masks(received.frame_index, frame, recorder, tracked, lives)
        received.trace.finish(
            recorder,
            self._last_trace,
            conditioning=tracked.conditioning,
            num_objects=len(tracked.masks),
            sent_ns=sent_ns,
        )
        self._last_trace = received.trace
        del self._in_progress[received.frame_index]
        metrics.count_frame("tracked")
        delay = self._session.concepts.hotstart_delay()
        result = track_result(masks, received.trace, sent_ns=sent_ns, hotstart_delay=delay)
        self._output.put(tracker_pb2.TrackResponse(result=result))

    async def _memorize_prompted(
        self, frame_index: int, frame: Frame, recorder: StageRecorder, received: _ReceivedFrame
    ) -> None:
        """Make a prompted frame a conditioning frame, within the trace of the frame that needs it."""
        attributes: telemetry.Attributes = {
            telemetry.FRAME_INDEX: frame_index,
            telemetry.FRAME_KIND: telemetry.CONDITIONING,
        }
        memory_recorder = self._tracker.recorder(attributes)
        step = Step(list(self._session.objects.values()), frame_index, frame, memory_recorder)
        await self._worker.run(
            lambda: self._tracker.memorize_prompted(step),
            recorder=recorder,
            entry=_queue_entry(received),
        )
        recorder.records += memory_recorder.records
        self._session.prompted_refs.pop(frame_index, None)


def _queue_entry(received: _ReceivedFrame) -> QueueEntry:
    return QueueEntry(Priority.AHEAD, received.ref.tenant)
