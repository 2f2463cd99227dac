"""SegmentStream: receives frames and commands in any order, and sends masks in frame order."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeAlias

from gateway.backends.encoders import Encoded
from gateway.frames.frame_ring import FrameRing
from gateway.live.commands import LiveCommands
from gateway.live.gated_frames import GatedFrame, GatedFrames, GatedResult
from gateway.live.inbox import MAX_QUEUED_COMMANDS, Command, Inbox, ReceivedFrame
from gateway.live.live_points import LivePoints
from gateway.live.motion_gate import MotionGate
from gateway.live.responses import LiveOptions, LiveResponses, Response
from gateway.points.point_tracking import PointCalls
from gateway.sessions.frame_embeddings import encode_received_frame, frame_embedding
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import FrameStream, StreamContext
from gateway.streams.track_call import Result
from maskmesh import telemetry
from maskmesh.errors import InternalError, InvalidRequest, MaskmeshError, SessionNotFound, Unavailable
from maskmesh.media.pictures import PixelLimit
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import segmentation_pb2

# Maximum number of responses that are not delivered yet; no requests are read while there are more.
MAX_QUEUED_RESPONSES = 64

# All streams of a live session are one propagation with continuous frame indices.
PROPAGATION_ID = "live"

# A frame, and the task that ends with its embedding.
_Encoding: TypeAlias = tuple[int, "asyncio.Task[Encoded]"]


class LiveStream(FrameStream[Response | Result | GatedResult]):
    """One call of SegmentStream.

    A received frame waits for a window slot, and may be skipped meanwhile, see :class:`Inbox`.  After that,
    items keep the order in which the client sent them: frames are encoded concurrently and sent to the
    tracker in order, and commands are carried out between them.  A frame that the motion gate answers needs a
    slot only for the comparison; its result follows that of the frame that it equals.
    """

    def __init__(
        self,
        session: GatewaySession,
        context: StreamContext,
        points: PointCalls,
        *,
        options: LiveOptions,
        limit: PixelLimit,
    ) -> None:
        super().__init__(session, context, propagation_id=PROPAGATION_ID)
        assert isinstance(session.frames, FrameRing), "live sessions have rings"
        self._ring: FrameRing = session.frames
        self._options = options
        queued = options.max_queued_frames
        self._inbox = Inbox(self._ring, max_frames=queued, limit=limit, reject=self._reject)
        threshold = options.gate_threshold
        self._gate = None if threshold is None else MotionGate(session, threshold)
        self._gated = GatedFrames()
        self._points = LivePoints(session, points)
        self._responses = LiveResponses(session.session_id, self._ring, self._points, options)
        self._ordered: asyncio.Queue[_Encoding | Command | None] = asyncio.Queue(MAX_QUEUED_COMMANDS)
        self._commands = LiveCommands(session, self._ring, context, self._points, options.masks, self._answer)
        self._sequences: dict[int, int] = {}  # of the frames in progress
        self._received_ns: dict[int, int] = {}  # of the same frames
        self._num_unanswered = 0
        self._is_all_sent = False
        self._response_taken = asyncio.Event()

    async def run(
        self,
        requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest],
        started: segmentation_pb2.StreamStarted,
        resume_point: ResumePoint | None,
        next_sequence: int,
    ) -> AsyncGenerator[Response, None]:
        """The responses to the messages that follow the configuration; ``started`` is the first one.

        ``next_sequence`` is the sequence number of the first frame that a resuming client can send again.
        """
        after_another = self._session.had_stream
        async with self._session.streaming(self, takes_over=resume_point is not None):
            try:
                if resume_point is not None:
                    self._ring.continue_at(resume_point.next_frame_index, next_sequence)
                    self._ring.report_again(resume_point.start)
                self._inbox.begin()
                with self.raising_interruption():
                    first = self._ring.num_frames if resume_point is None else resume_point.next_frame_index
                    await self._call.open(
                        self._options.masks, after_another=after_another, tracked=range(first) or None
                    )
                    await self._points.start(self._options.motion)
                started.next_sequence = self._ring.next_sequence
                received = 0 if resume_point is None else resume_point.start
                started.resume_token = str(ResumePoint(self._session.session_id, first, 0, start=received))
                yield Response(started=started)
                reading = self._inbox.fill(self._paced(requests))
                for work in (reading, self._accept(first), self._send(), self._receive()):
                    self._output.spawn(work)
                async for item in self._output:
                    self._response_taken.set()
                    if isinstance(item, Result):
                        yield await self._result_response(item)
                        self._delivered(item)
                    elif isinstance(item, GatedResult):
                        yield self._gated_response(item)
                        self._delivered_gated(item)
                    else:
                        yield item
                if self._inbox.is_finished:
                    yield self._responses.summary(self._inbox)
            finally:
                self._gated.abandon()
                await self._points.close()
                await self._end()

    @property
    def is_finished(self) -> bool:
        """Whether the client has finished; otherwise the stream failed, or another stream replaced it."""
        return self._inbox.is_finished and self.interruption is None

    async def _paced(
        self, requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest]
    ) -> AsyncIterator[segmentation_pb2.SegmentStreamRequest]:
        """Yield the requests; reading pauses while too many responses are not delivered yet."""
        async for request in requests:
            while len(self._output) + len(self._gated) > MAX_QUEUED_RESPONSES:
                self._response_taken.clear()
                await self._response_taken.wait()
            yield request

    async def _accept(self, first_index: int) -> None:
        """Accept frames from the inbox as window slots become free, and commands at once.

        Frames from ``first_index`` on that an earlier stream accepted without a result are accepted first.
        """
        await self._accept_again(first_index)
        while (item := await self._inbox.next(self._slots)) is not None:
            if isinstance(item, ReceivedFrame):
                await self._session.caller.wait_for_stream_frame()
                await self._begin(item)
            else:
                if self._gate is not None:
                    self._gate.open()
                await self._ordered.put(item)
        await self._ordered.put(None)

    async def _begin(self, received: ReceivedFrame) -> None:
        """Assign an index to a frame and begin to encode it, unless nothing has moved."""
        began_ns = time.time_ns()
        recorder, is_still = telemetry.StageRecorder(), False
        if self._gate is not None:
            with recorder.stage(telemetry.MOTION_GATE):
                is_still = await self._gate.is_still(received.image)
        if is_still:
            index = self._ring.repeat(received.sequence)
            trace = self._new_trace(index, received.awaited_ns)
        else:
            index = self._ring.append(received.image, received.sequence)
            trace = self._begin_trace(index, received.awaited_ns)
        trace.waited(received.awaited_ns, received.received_ns, "client")
        trace.waited(received.received_ns, began_ns, "window")
        trace.ran(recorder.records)
        if is_still:
            self._slots.release()
            gated = GatedFrame(received.sequence, index, received.received_ns, time.time_ns(), trace)
            # Until its result is sent, a client that resumes the stream takes it for skipped.
            self._ring.skipped.append(received.sequence)
            if (result := self._gated.add(gated)) is not None:
                self._output.put(result)
            return
        self._received_ns[index] = received.received_ns
        self._points.begin(index, received.received_ns, trace)
        encoders, options = self._context.encoders, self._context.encode_options
        encoding = encode_received_frame(self._session, encoders, index, received.image, options)
        await self._enqueue(index, trace.task(encoding))

    async def _accept_again(self, first_index: int) -> None:
        self._ring.skipped += self._ring.dropped_from(first_index)
        context = self._context
        for index in self._ring.kept_from(first_index):
            await self._slots.acquire()
            trace = self._begin_trace(index, time.time_ns())
            self._received_ns[index] = time.time_ns()
            work = frame_embedding(self._session, context.encoders, index, context.encode_options)
            await self._enqueue(index, trace.task(work))

    async def _enqueue(self, index: int, task: "asyncio.Task[Encoded]") -> None:
        self._sequences[index] = self._ring.sequence(index)
        self._output.tasks.hold(task)
        await self._ordered.put((index, task))

    async def _send(self) -> None:
        """Send frames to the tracker, and carry out the commands between them."""
        while (item := await self._ordered.get()) is not None:
            if isinstance(item, Command):
                await self._carry_out(item)
                continue
            index, task = item
            try:
                encoded = await task
            except InvalidRequest as error:
                self._drop_broken_frame(index, error)
                continue
            trace = self._traces[index]
            trace.encoded(encoded)
            self._num_unanswered += 1
            # The points get the frame first: its result may be delivered before the call of send returns.
            self._points.send(index, self._received_ns[index], trace)
            await self._call.send(index, encoded.ref, self._sent(trace, encoded))
        self._is_all_sent = True
        await self._finish_call_if_answered()

    async def _finish_call_if_answered(self) -> None:
        """Close the stream to the tracker after the last result; the tracker may request embeddings until
        then.
        """
        if self._is_all_sent and not self._num_unanswered:
            await self._call.finish()

    async def _carry_out(self, command: Command) -> None:
        try:
            await self._commands.carry_out(command)
        except (SessionNotFound, Unavailable, InternalError):
            raise
        except MaskmeshError as error:
            self._reject(error, request_id=command.message.request_id)

    def _answer(self, request_id: str, outcome: Response | MaskmeshError) -> None:
        self._output.put(self._responses.answer(request_id, outcome))

    async def _receive(self) -> None:
        async for result in self._call.results():
            await self._points.wait(result.frame.frame_index)
            if self._is_all_sent and self._num_unanswered == 1:
                await self._points.finish()  # the last result has what it waited for
            self._output.put(result)
            for gated in self._gated.answer(result):
                self._output.put(gated)
            self._num_unanswered -= 1
            await self._finish_call_if_answered()
        await self._points.finish()
        self._output.finish()

    async def _encode_again(self, frame_index: int, is_gone: bool) -> EmbeddingRef:
        if is_gone:
            self._session.drop_ref(frame_index)
        options = self._context.encode_options
        return (await frame_embedding(self._session, self._context.encoders, frame_index, options)).ref

    async def _result_response(self, result: Result) -> Response:
        trace = self._traces[index := result.frame.frame_index]
        trace.received(result, was_held=False)
        self._points.deliver(index, trace)
        if self._options.erase is not None:
            self._responses.erased = await self._erase(self._options.erase, self._ring.read(index), result)
        return self._responses.result(
            self._with_trace(result),
            self._sequences.pop(index),
            self._received_ns.pop(index),
            newest=self._inbox.newest_sequence,
            gated=False,
        )

    def _gated_response(self, result: GatedResult) -> Response:
        gated, newest = result.gated, self._inbox.newest_sequence
        gated.trace.gated(gated.ready_ns)
        return self._responses.result(
            result.frame(), gated.sequence, gated.received_ns, newest=newest, gated=True
        )

    def _delivered_gated(self, result: GatedResult) -> None:
        trace = self._gated.deliver(result.gated)
        num_objects = len(result.masks.objects)
        self._stream_trace.add(trace, trace.delivered(conditioning=False, num_objects=num_objects))
        self._session.renew()

    def _drop_broken_frame(self, index: int, error: InvalidRequest) -> None:
        """Reject a frame that cannot be decoded; the stream continues."""
        self._traces.pop(index).abandoned()
        self._slots.release()
        error.metadata["field"] = "frame.image"
        self._received_ns.pop(index, None)
        self._points.drop(index)
        self._reject(error, sequence=self._sequences.pop(index))
        if self._gate is not None:
            self._gate.open()
        for gated in self._gated.drop(index):
            self._gated.deliver(gated).abandoned()
            self._ring.skipped.remove(gated.sequence)
            self._reject(error, sequence=gated.sequence)

    def _reject(self, error: MaskmeshError, *, request_id: str = "", sequence: int | None = None) -> None:
        self._output.put(self._responses.rejection(error, request_id=request_id, sequence=sequence))
