"""The client's end of a live stream."""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from maskmesh import wire
from maskmesh.client.live.followed_points import FollowedPoints
from maskmesh.client.live.live_result import LiveResult, live_result_from_proto
from maskmesh.client.live.resumable_stream import ResumableStream
from maskmesh.client.prompts import integer, prompt_message
from maskmesh.concepts import DEFAULT_OPTIONS, Concept, ConceptOptions, as_concept
from maskmesh.errors import MaskmeshError, Unavailable
from maskmesh.media.pictures import ImageLike, as_image
from maskmesh.points import PointGrid, PointQuery
from maskmesh.records.summary import StreamSummary
from maskmesh.rpc.status import from_reason
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import Box, FrameMasks, MaskLike, Point
from maskmesh.v1 import segmentation_pb2

logger = logging.getLogger(__name__)

# Frames that are kept until they are acknowledged: no more than are displayed in a moment where frames may be
# skipped, more than a sender can be ahead where not.
MAX_SKIPPABLE = 16
MAX_UNACKNOWLEDGED = 1024

OnRejected: TypeAlias = Callable[[int, MaskmeshError], None]
"""Called with the number of a frame that cannot be used, and the reason."""


class LiveStream(ResumableStream):
    """Send frames with :meth:`send`, and iterate over the results; made by ``AsyncClient.stream``.

    Send in one task and iterate in another: each may have to wait for the gateway, and prompts are answered
    only while results are taken.  Other calls on the session go through ``AsyncClient.attach``.
    If the connection breaks, the stream continues at a gateway that is reachable, and messages that were not
    acknowledged are sent again.  If none is reachable within ``RESUME_SECONDS``, sending and iterating raise
    :class:`Unavailable`.
    """

    def __init__(
        self,
        connect: Callable[[], StreamCall],
        on_rejected: OnRejected | None,
        *,
        max_results: int,
        skips: bool,
    ) -> None:
        """``connect`` begins a call of SegmentStream."""
        super().__init__(connect, max_unacknowledged=MAX_SKIPPABLE if skips else MAX_UNACKNOWLEDGED)
        self._on_rejected = on_rejected or _log_rejected
        self._max_results = max_results
        self._results: deque[LiveResult] = deque()
        self._pending_requests: dict[str, asyncio.Future[Any]] = {}
        self.summary: StreamSummary | None = None
        """Statistics of the stream, once its results have ended after :meth:`finish`.  If the stream broke
        and was continued, they are those of the last call."""
        self._followed = FollowedPoints()
        self._rejected: set[int] = set()  # frames whose rejection was reported; they may be rejected again
        self._sending = asyncio.Lock()

    @property
    def next_sequence(self) -> int:
        """The number of the next frame; after a stream broke, of the first frame that the server lacks."""
        return self._next_sequence

    async def send(self, image: ImageLike) -> int:
        """Send the next frame; returns its number."""
        frame = segmentation_pb2.StreamFrame(image=wire.image_to_proto(as_image(image)))
        async with self._sending:
            # A frame whose sending is cancelled does not use up its number, or there would be a gap.
            frame.sequence = self._next_sequence
            request = segmentation_pb2.SegmentStreamRequest(frame=frame)
            try:
                await self._write(request)
            except BaseException:
                # A frame that is kept is sent when the stream is resumed, so it has used its number.
                self._next_sequence += request in self._unacknowledged
                raise
            self._next_sequence += 1
        return frame.sequence

    async def add_prompt(
        self,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: MaskLike | None = None,
        sequence: int | None = None,
        clear_previous: bool = False,
    ) -> FrameMasks:
        """Prompt an object; returns its mask.  Frames that are sent after this are tracked with it.

        ``sequence`` is the number of a frame, one of the last 8; None is the last one that was sent.  The
        other arguments are those of ``VideoSession.add_prompt``.  Raises InvalidPrompt, FrameOutOfMemory.
        """
        message = segmentation_pb2.StreamPrompt(
            request_id=uuid.uuid4().hex,
            sequence=sequence,
            obj_id=integer("obj_id", obj_id),
            prompt=prompt_message(points=points, box=box, mask=mask),
            clear_previous=clear_previous,
        )
        request = segmentation_pb2.SegmentStreamRequest(prompt=message)
        response = await self._request(
            message.request_id, request, lambda: self._default_to_last(request.prompt)
        )
        return wire.frame_masks_from_proto(response.frame)

    async def remove_object(self, obj_id: int) -> list[int]:
        """Remove one object; returns those that remain.  Raises ObjectNotFound."""
        removal = segmentation_pb2.StreamRemoval(request_id=uuid.uuid4().hex, obj_id=obj_id)
        request = segmentation_pb2.SegmentStreamRequest(removal=removal)
        return list((await self._request(removal.request_id, request)).obj_ids)

    async def add_concept(
        self,
        concept_id: int,
        concept: Concept | str,
        *,
        sequence: int | None = None,
        options: ConceptOptions = DEFAULT_OPTIONS,
    ) -> FrameMasks | None:
        """Find all objects of a concept on the frames that are sent after this, and follow them.

        With ``sequence``, the number of a frame as in :meth:`add_prompt`, that frame is searched at once, and
        the masks there are returned.  The other arguments are those of ``VideoSession.add_concept``.
        Raises InvalidPrompt, InvalidRequest, FrameOutOfMemory.
        """
        message = segmentation_pb2.StreamConcept(
            request_id=uuid.uuid4().hex,
            concept_id=integer("concept_id", concept_id),
            concept=wire.concept_to_proto(as_concept(concept)),
            sequence=sequence,
            options=wire.concept_options_to_proto(options),
        )
        request = segmentation_pb2.SegmentStreamRequest(concept=message)
        response = await self._request(message.request_id, request)
        return wire.frame_masks_from_proto(response.frame) if response.HasField("frame") else None

    async def remove_concept(self, concept_id: int, *, keep_objects: bool = False) -> list[int]:
        """Remove a concept, and its objects unless they are kept; returns the objects that remain.

        Raises ConceptNotFound.
        """
        removal = segmentation_pb2.StreamConceptRemoval(
            request_id=uuid.uuid4().hex,
            concept_id=integer("concept_id", concept_id),
            keep_objects=keep_objects,
        )
        request = segmentation_pb2.SegmentStreamRequest(concept_removal=removal)
        return list((await self._request(removal.request_id, request)).obj_ids)

    async def add_points(
        self,
        points: Mapping[int, Sequence[float]] | None = None,
        *,
        grids: Sequence[PointGrid] = (),
        sequence: int | None = None,
    ) -> Sequence[PointQuery]:
        """Follow points on the frames that are sent after this; returns all of them, also those of grids.

        points: the positions (x, y) on the frame ``sequence``, by their numbers; a grid's ``frame_index`` is
        left at 0.  ``sequence`` is as in :meth:`add_prompt`.  Raises InvalidRequest, ObjectNotFound,
        FrameOutOfMemory, ResourceExhausted.
        """
        message = segmentation_pb2.StreamPoints(
            request_id=uuid.uuid4().hex,
            sequence=sequence,
            points=[
                wire.point_query_to_proto(PointQuery(integer("point_id", point_id), 0, *place))
                for point_id, place in (points or {}).items()
            ],
            grids=[wire.point_grid_to_proto(grid) for grid in grids],
        )
        request = segmentation_pb2.SegmentStreamRequest(points=message)

        def begin() -> None:
            self._default_to_last(request.points)
            self._followed.requested(request.points)

        response = await self._request(message.request_id, request, begin)
        return wire.point_queries_from_proto(response.points)

    async def remove_points(self, point_ids: Sequence[int] = ()) -> list[int]:
        """Stop following points, by default all of them; returns those that remain.

        Raises InvalidRequest.
        """
        removal = segmentation_pb2.StreamPointsRemoval(request_id=uuid.uuid4().hex, point_ids=point_ids)
        request = segmentation_pb2.SegmentStreamRequest(points_removal=removal)
        return list((await self._request(removal.request_id, request)).point_ids)

    async def finish(self) -> None:
        """Send no more frames; iterating ends after the results in progress.

        Later sends raise ValueError.
        """
        await self._write(segmentation_pb2.SegmentStreamRequest(finish=segmentation_pb2.StreamFinish()))

    async def __aiter__(self) -> AsyncIterator[LiveResult]:
        """Results in the order of their frames."""
        while True:
            while not self._results:
                if self._has_ended:
                    if self._ending is not None:
                        raise self._ending
                    return
                self._changed.clear()
                await self._changed.wait()
            yield self._results.popleft()
            self._changed.set()

    def _default_to_last(
        self, message: segmentation_pb2.StreamPrompt | segmentation_pb2.StreamPoints
    ) -> None:
        """Let a command refer to the last frame that was sent, for good: it may be sent again later."""
        if not message.HasField("sequence") and self._next_sequence:
            message.sequence = self._next_sequence - 1

    async def _request(
        self,
        request_id: str,
        request: segmentation_pb2.SegmentStreamRequest,
        begin: Callable[[], None] = lambda: None,
    ) -> Any:
        """Send a command; returns its answer.  ``begin`` is called after frames that are being sent."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending_requests[request_id] = future
        try:
            async with self._sending:
                begin()
                await self._write(request)
            return await future
        except asyncio.CancelledError:
            self._unacknowledged.acknowledge_request(request_id)  # not sent again
            raise
        finally:
            self._pending_requests.pop(request_id, None)

    async def _process(self, response: segmentation_pb2.SegmentStreamResponse) -> None:
        match response.WhichOneof("content"):
            case "result":
                await self._add_result(response.result)
            case "rejected":
                self._reject(response.rejected)
            case "summary":
                self.summary = wire.stream_summary_from_proto(response.summary)
            case str(name):
                answer = getattr(response, name)  # the response to a command
                self._followed.answered(answer)
                self._set_response(answer.request_id, answer)

    async def _add_result(self, result: segmentation_pb2.StreamResult) -> None:
        """Add a result, and wait until the application has taken enough of them."""
        self._config.resume_token = result.resume_token
        self._unacknowledged.acknowledge_frame(result.sequence)
        self._rejected = {s for s in self._rejected if s > result.sequence}
        self._results.append(live_result_from_proto(result, self._followed.update(result)))
        self._changed.set()
        while len(self._results) >= self._max_results:
            self._changed.clear()
            await self._changed.wait()

    def _restored(self) -> Sequence[segmentation_pb2.SegmentStreamRequest]:
        return [segmentation_pb2.SegmentStreamRequest(points=m) for m in self._followed.restored()]

    def _on_end(self) -> None:
        for future in self._pending_requests.values():
            if not future.done():
                future.set_exception(self._ending or Unavailable("the stream has ended"))

    def _set_response(self, request_id: str, response: Any) -> None:
        self._unacknowledged.acknowledge_request(request_id)
        future = self._pending_requests.get(request_id)
        if future is not None and not future.done():
            if isinstance(response, BaseException):
                future.set_exception(response)
            else:
                future.set_result(response)

    def _reject(self, rejected: segmentation_pb2.StreamRejected) -> None:
        error = from_reason(rejected.reason, rejected.message, rejected.metadata)
        if rejected.HasField("sequence"):
            if rejected.sequence not in self._rejected:
                self._rejected.add(rejected.sequence)
                self._on_rejected(rejected.sequence, error)
        elif not self._followed.was_rejected(rejected):
            self._set_response(rejected.request_id, error)


def _log_rejected(sequence: int, error: MaskmeshError) -> None:
    logger.warning("frame %d cannot be used: %s", sequence, error)
