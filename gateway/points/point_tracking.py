"""TrackPoints: frames are read and encoded ahead, followed in order and delivered in order."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.trace import SpanContext

from gateway.backends.encoders import Encoded, EncodeOptions, Encoders
from gateway.points.motion import PointMotion, motion_settings
from gateway.points.point_call import METHOD, PointCall, PointResult
from gateway.points.queries import Queries, digest_of, points_of
from gateway.sessions.frame_embeddings import encode_read_frame, read_frame
from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from gateway.streams.frame_trace import FrameTrace
from maskmesh import wire
from maskmesh.aio import StreamOutput
from maskmesh.errors import InvalidRequest, MaskmeshError, Unavailable
from maskmesh.types import EmbeddingRef, ModelInfo
from maskmesh.v1 import points_pb2

# How long a call waits for an encoder that tells its model.
MODEL_SECONDS = 10.0

Responses: TypeAlias = AsyncGenerator[points_pb2.TrackPointsResponse, None]

# A frame, and the task that ends with its embedding.
_Encoding: TypeAlias = tuple[int, "asyncio.Task[Encoded]"]


@dataclass(frozen=True, slots=True)
class PointCalls:
    """Carries out TrackPoints; at most ``window`` frames of a call are in progress."""

    lifecycle: Lifecycle
    router: SessionRouter
    encoders: Encoders
    window: int

    async def track(
        self, request: points_pb2.TrackPointsRequest, timeout: float | None, *, start_ns: int
    ) -> Responses:
        """The responses; the proto lists the errors.  ``start_ns`` is when the call was received."""
        session = await self.lifecycle.find(request.session_id)
        if session.is_live:
            raise InvalidRequest("the frames of a live session are not kept", field="session_id")
        model = await self.model()
        motion = None
        if request.HasField("motion"):
            settings = motion_settings(request.motion, field="motion")
            motion = PointMotion(settings, self.router.trackers, session.caller.tenant)
        queries = await points_of(request, session, self.router, timeout)
        frames, last = _frames(request, session, queries)
        options = EncodeOptions(interactive=False, tenant=session.caller.tenant, timeout=timeout)
        has_object = any(grid.HasField("obj_id") for grid in request.grids)
        placed = [point for points in queries.values() for point in points] if has_object else []
        plan = CallPlan(queries, placed, last, motion)
        tracking = PointTracking(session, self, options, plan)
        async with self.lifecycle.keeping_alive(session):
            responses = tracking.run(frames, model, start_ns=start_ns)
            try:
                async for response in responses:
                    yield response
            finally:
                await responses.aclose()

    async def model(self) -> ModelInfo:
        """The encoders' model for points.  Raises InvalidRequest if they have none, and Unavailable."""
        try:
            async with asyncio.timeout(MODEL_SECONDS):
                return await self.encoders.model()
        except TimeoutError as error:
            raise Unavailable("no encoder for points can be reached", service="encoder") from error
        except InvalidRequest as error:
            raise InvalidRequest(
                "this mesh follows no points: start encoders and trackers with --point-model", field="points"
            ) from error


def _frames(
    request: points_pb2.TrackPointsRequest, session: GatewaySession, queries: Queries
) -> tuple[range, int | None]:
    """The frames of a call, and the last one that an interrupted call has delivered."""
    first, end = min(queries), session.frames.num_frames
    if not request.resume_token:
        if request.max_frames:
            end = min(end, first + request.max_frames)
        return range(first, end), None
    if request.max_frames:
        raise InvalidRequest("the resume token determines the frames", field="max_frames")
    point = ResumePoint.parse(request.resume_token, session_id=session.session_id)
    is_same = point.start == first and point.propagation_id == digest_of(queries)
    if not is_same or not first < point.next_frame_index <= point.end <= end:
        raise InvalidRequest("the points are not those of the interrupted call", field="resume_token")
    return point.frames, point.next_frame_index - 1


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What one call follows.

    ``placed`` are the points that its first response has, ``last`` is the last frame that an interrupted call
    has delivered.
    """

    queries: Queries
    placed: Sequence[points_pb2.PointQuery]
    last: int | None
    motion: PointMotion | None


class PointTracking:
    """One call.  Three tasks move the frames, as in a propagation; a slow client slows all of them down."""

    def __init__(
        self,
        session: GatewaySession,
        calls: PointCalls,
        options: EncodeOptions,
        plan: CallPlan,
    ) -> None:
        queries = plan.queries
        self._motion, self._placed = plan.motion, plan.placed
        self._session = session
        self._encoders = calls.encoders
        self._options = options
        self._queries, self._first = queries, min(queries)
        self._call = PointCall(
            calls.router.trackers,
            session.session_id,
            queries,
            last=plan.last,
            encode=self._encode,
            timeout=options.timeout,
        )
        self._links: tuple[SpanContext, ...] = (session.span, trace.get_current_span().get_span_context())
        self._group = uuid.uuid4().hex[:16]
        self._reader = session.frames.open_reader()
        self._reading = asyncio.Lock()
        self._output: StreamOutput[PointResult] = StreamOutput()
        self._slots = asyncio.Semaphore(calls.window)
        self._encodings: asyncio.Queue[_Encoding | None] = asyncio.Queue()
        self._traces: dict[int, FrameTrace] = {}

    async def run(self, frames: range, model: ModelInfo, *, start_ns: int) -> Responses:
        """Yield the responses for ``frames`` in order."""
        opening_ns = time.time_ns()
        try:
            await self._call.open()
            if self._motion is not None:
                self._motion.check(self._call.tokenizer_points, self._queries)
            opening = (opening_ns, time.time_ns())
            self._output.spawn(self._read_ahead(frames, start_ns, opening))
            self._output.spawn(self._send())
            self._output.spawn(self._receive(len(frames)))
            info, digest = wire.model_info_to_proto(model), digest_of(self._queries)
            async for result in self._output:
                index = result.frame.frame_index
                token = ResumePoint(self._session.session_id, index + 1, frames.stop, 1, self._first, digest)
                frame = self._complete(result)
                response = points_pb2.TrackPointsResponse(
                    motion_windows=() if self._motion is None else await self._motion.add(frame),
                    frame=frame,
                    resume_token=str(token),
                    model=info if index == frames.start else None,
                    points=self._placed if index == frames.start else (),
                )
                yield response
                self._traces.pop(index).delivered(conditioning=False, num_objects=len(response.frame.points))
                self._session.renew()
                self._slots.release()
        finally:
            try:
                await self._call.close()
                await self._output.close()
            finally:
                self._reader.close()
                for frame_trace in self._traces.values():
                    frame_trace.abandoned()

    async def _read_ahead(self, frames: range, start_ns: int, opening: tuple[int, int]) -> None:
        """Read and encode frames in order, each as soon as the window has a free slot."""
        for index in frames:
            await self._slots.acquire()
            await self._session.caller.wait_for_stream_frame()
            is_first = index == frames.start
            frame_trace = self._traces[index] = FrameTrace(
                index,
                self._session,
                propagation_id=self._group,
                links=self._links,
                start_ns=start_ns if is_first else time.time_ns(),
                is_first=is_first,
            )
            if is_first:
                frame_trace.opened_stream(*opening)
            task = frame_trace.task(self._encode_frame(index, self._motion))
            self._output.tasks.hold(task)
            await self._encodings.put((index, task))
        await self._encodings.put(None)

    async def _encode_frame(self, index: int, motion: PointMotion | None = None) -> Encoded:
        async with self._reading:
            frame = await read_frame(index, self._reader.read)
        if motion is not None:
            await motion.read(index, frame.image)
        return await encode_read_frame(self._encoders, index, frame, self._options)

    async def _encode(self, index: int) -> EmbeddingRef:
        return (await self._encode_frame(index)).ref

    async def _send(self) -> None:
        while (encoding := await self._encodings.get()) is not None:
            index, task = encoding
            encoded = await task
            frame_trace = self._traces[index]
            frame_trace.encoded(encoded)
            traceparent = frame_trace.sent_to_tracker(encoded.ready_ns, self._call.address, METHOD)
            await self._call.send(index, encoded.ref, traceparent)

    async def _receive(self, num_frames: int) -> None:
        remaining = num_frames
        if not remaining:
            await self._call.finish()
        async for result in self._call.results():
            self._output.put(result)
            remaining -= 1
            if not remaining:
                await self._call.finish()
        if remaining:
            raise _ended_early()
        self._output.finish()

    def _complete(self, result: PointResult) -> points_pb2.FramePoints:
        """The frame for the client, with the trace id and the stages of this gateway."""
        frame_trace = self._traces[result.frame.frame_index]
        frame_trace.received(result, was_held=False)
        frame = frame_trace.complete(result.frame)
        index, frames = frame.frame_index, self._session.frames
        wire.fill_frame_time(frame, frames.time(index), repeats_previous=frames.repeats_previous(index))
        return frame


def _ended_early() -> MaskmeshError:
    return MaskmeshError("the tracker ended the stream before its last frame")
