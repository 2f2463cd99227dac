"""One TrackPoints stream: frames are received ahead of time, and points are sent back in order."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from maskmesh import telemetry, wire
from maskmesh.aio import StreamOutput
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import embedding_pb2, points_pb2
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.telemetry import StageRecorder
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import points_pb2 as public_pb2
from tracker_svc.compute.step import Frame
from tracker_svc.embeddings.stream_embeddings import StreamEmbeddings
from tracker_svc.frame_trace import FrameTrace
from tracker_svc.points.components import PointComponents, PointRoom
from tracker_svc.points.point_set import PointSet, Query, TrackedPoint

# Frames whose embeddings are fetched before they are tracked.
FRAMES_AHEAD = 8

METHOD = "maskmesh.internal.v1.PointService/TrackPoints"


@dataclass(slots=True)
class _Received:
    """A frame, and the task that ends with its embedding."""

    message: points_pb2.PointFrame
    ref: EmbeddingRef
    trace: FrameTrace
    room: int
    """The number of points for which there was room when the frame was received."""
    fetching: "asyncio.Task[Frame] | None" = None

    @property
    def index(self) -> int:
        return self.message.frame_index

    @property
    def prefetch(self) -> "asyncio.Task[Frame]":
        """The task, which was begun."""
        assert self.fetching is not None, "the next frames are fetched"
        return self.fetching


class PointStream:
    """Follows the points of one stream.

    Embeddings are fetched ahead.  Frames that are there are tracked together, as many as the model likes.
    Points that are chosen on an earlier frame are followed apart to the last frame, and then join the others.
    """

    def __init__(self, components: PointComponents, session_id: str, room: PointRoom) -> None:
        """``room`` is that of the points."""
        self._room = room
        self._components = components
        self._session_id = session_id
        self._points = components.model.new_set()
        self._late_points: PointSet | None = None
        """Points that are not yet followed to the last frame."""
        self._late_index = 0
        """The last frame to which they are followed."""
        self._embeddings = StreamEmbeddings(components.embeddings, self._request_embedding)
        self._received: deque[_Received] = deque()
        self._batch: Sequence[_Received] = ()
        self._changed = asyncio.Event()
        self._is_all_received = False
        self._output: StreamOutput[points_pb2.TrackPointsResponse] = StreamOutput()
        self._last: int | None = None
        self._last_late: int | None = None
        """The last frame of :attr:`_late_points`, None if there are none."""

    def end(self, error: BaseException) -> None:
        """End the stream with an error, after the results so far."""
        self._output.fail(error)

    async def run(
        self, requests: AsyncIterator[points_pb2.TrackPointsRequest]
    ) -> AsyncGenerator[points_pb2.TrackPointsResponse, None]:
        """Yield the responses to the messages that follow the configuration."""
        self._output.spawn(self._read(requests))
        self._output.spawn(self._track_all())
        try:
            async for response in self._output:
                yield response
        finally:
            await self._output.close()
            for received in (*self._batch, *self._received):
                if received.fetching is not None:
                    received.fetching.cancel()
                received.trace.end()

    async def _read(self, requests: AsyncIterator[points_pb2.TrackPointsRequest]) -> None:
        try:
            async for request in requests:
                match request.WhichOneof("content"):
                    case "frame":
                        self._receive(request.frame)
                    case "embedding":
                        ref = wire.embedding_ref_from_proto(request.embedding.embedding)
                        self._embeddings.resolve(request.embedding.frame_index, ref)
                    case "room":
                        count = request.room.points
                        is_taken = self._room.resize(count)
                        taken = points_pb2.PointRoomTaken(is_taken=is_taken, points=count)
                        self._output.put(points_pb2.TrackPointsResponse(room=taken))
                    case _:
                        raise InvalidRequest("the configuration must be sent only once", field="config")
        finally:
            self._embeddings.close()
            self._is_all_received = True
            self._changed.set()

    def _receive(self, message: points_pb2.PointFrame) -> None:
        """Check a frame and begin to fetch its embedding."""
        ref = wire.embedding_ref_from_proto(message.embedding)
        self._embeddings.check(ref)
        self._check_order(message)
        trace = FrameTrace(
            message.frame_index,
            session_id=self._session_id,
            traceparent=message.traceparent,
            clock_offset_ns=message.clock_offset_nanos,
            method=METHOD,
        )
        self._received.append(_Received(message, ref, trace, self._room.size))
        self._fetch_ahead()
        self._changed.set()

    def _check_order(self, message: points_pb2.PointFrame) -> None:
        """Check that frames increase, and that late points reach the last frame before the next one."""
        index = message.frame_index
        if message.purpose == points_pb2.FRAME_PURPOSE_CATCH_UP:
            is_next = self._last_late in (None, self._last) or index > (self._last_late or 0)
            is_in_order = is_next and self._last is not None and 0 <= index <= self._last
            self._last_late = index
        else:
            is_in_order = index >= 0 and (self._last is None or index > self._last)
            is_in_order &= self._last_late in (None, self._last)
            self._last, self._last_late = index, None
        if not is_in_order:
            raise InvalidRequest("frames must be sent in order", field="frame.frame_index")

    def _fetch_ahead(self) -> None:
        """Begin to fetch the embeddings of the next frames; a replay has many more than the cache holds."""
        for received in islice(self._received, FRAMES_AHEAD):
            if received.fetching is None:
                received.fetching = self._embeddings.prefetch(received.ref, received.trace)
                received.fetching.add_done_callback(partial(_note_ready, received.trace))

    def _request_embedding(self, frame_index: int) -> None:
        needed = points_pb2.PointEmbeddingNeeded(frame_index=frame_index)
        self._output.put(points_pb2.TrackPointsResponse(embedding_needed=needed))

    async def _track_all(self) -> None:
        while batch := await self._next_batch():
            await self._step(batch)
            self._batch = ()
        self._output.finish()

    async def _next_batch(self) -> list[_Received]:
        """The next frames to track together; empty after the last one."""
        while not self._received:
            if self._is_all_received:
                return []
            self._changed.clear()
            await self._changed.wait()
        self._batch = batch = [self._received.popleft()]
        self._fetch_ahead()
        if batch[0].message.purpose == points_pb2.FRAME_PURPOSE_QUERIES:
            return batch
        await asyncio.wait({batch[0].prefetch})
        while len(batch) < self._components.model.frames_at_once and self._received:
            following = self._received[0]
            is_other = following.message.purpose != batch[0].message.purpose
            changes = following.message.points or following.message.removed_point_ids
            if is_other or changes or not following.prefetch.done():
                break
            batch.append(self._received.popleft())
        self._fetch_ahead()
        return batch

    async def _step(self, batch: Sequence[_Received]) -> None:
        """Add the points of the first frame, track the frames, and send their results."""
        first = batch[0]
        frames = [await self._embeddings.get(r.index, r.prefetch, r.trace) for r in batch]
        recorders = [self._components.recorder(r.index) for r in batch]
        begun_ns = time.time_ns()
        for received, recorder in zip(batch, recorders, strict=True):
            received.trace.ready_ns = received.trace.ready_ns or begun_ns
            recorder.wait(received.trace.ready_ns, begun_ns, "previous_frame")
        run = partial(
            self._components.worker.run,
            recorder=recorders[0],
            entry=QueueEntry(Priority.AHEAD, first.ref.tenant),
        )
        if self._late_points is not None or first.message.removed_point_ids:
            # Sets of points are joined, which copies their tensors.
            points = await run(partial(self._points_of, first.message))
        else:
            points = self._points_of(first.message)
        if first.message.points:
            if self._num_points + len(first.message.points) > first.room:
                raise InvalidRequest("there are more points than were announced", field="frame.points")
            queries = [Query(point.point_id, point.x, point.y) for point in first.message.points]
            await run(lambda: points.add(frames[0], queries, recorders[0]))
        if first.message.purpose == points_pb2.FRAME_PURPOSE_QUERIES:
            first.trace.end()
            return
        tracked = await run(lambda: points.track(frames, recorders))
        self._late_index = batch[-1].index
        for received, frame, recorder, found in zip(batch, frames, recorders, tracked, strict=True):
            if received.message.purpose in (
                points_pb2.FRAME_PURPOSE_REPLAY,
                points_pb2.FRAME_PURPOSE_CATCH_UP,
            ):
                received.trace.end()
            else:
                self._send(received, frame, recorder, found)

    @property
    def _num_points(self) -> int:
        return len(self._points) + (0 if self._late_points is None else len(self._late_points))

    def _points_of(self, message: points_pb2.PointFrame) -> PointSet:
        """The points that are followed to a frame, without those that it removes."""
        is_late = message.purpose == points_pb2.FRAME_PURPOSE_CATCH_UP
        late = self._late_points
        if late is not None and (not is_late or message.frame_index <= self._late_index):
            self._points.join(late)
            late = None
        if message.removed_point_ids:
            self._points.remove(set(message.removed_point_ids))
        if not is_late:
            self._late_points = None
            return self._points
        self._late_points = self._components.model.new_set() if late is None else late
        return self._late_points

    def _send(
        self, received: _Received, frame: Frame, recorder: StageRecorder, points: Sequence[TrackedPoint]
    ) -> None:
        trace, sent_ns = received.trace, recorder.records[-1].end_ns
        trace.finish(
            recorder,
            None,
            conditioning=bool(received.message.points),
            num_objects=len(points),
            sent_ns=sent_ns,
        )
        message = public_pb2.FramePoints(
            frame_index=received.index,
            points=[public_pb2.TrackedPoint(**point._asdict()) for point in points],
            width=frame.width,
            height=frame.height,
            stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
        )
        result = points_pb2.PointResult(
            frame=message,
            handling=embedding_pb2.Handling(
                received_unix_nanos=trace.received_ns,
                sent_unix_nanos=sent_ns,
                host=telemetry.this_host(),
                clock_offset_nanos=trace.clock_offset_ns,
            ),
            work=wire.work_to_proto(trace.work),
        )
        self._output.put(points_pb2.TrackPointsResponse(result=result))


def _note_ready(trace: FrameTrace, task: "asyncio.Task[Frame]") -> None:
    trace.note_ready()
