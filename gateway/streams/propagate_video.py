"""PropagateVideo: a propagation that returns masks."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import StreamContexts
from gateway.streams.propagation import FrameSelection, Propagation, frame_selection
from maskmesh import wire
from maskmesh.errors import InvalidRequest
from maskmesh.v1 import segmentation_pb2, types_pb2


@dataclass(frozen=True, slots=True)
class PropagationCalls:
    """Carries out PropagateVideo; at most ``window`` frames of a call are in progress."""

    lifecycle: Lifecycle
    contexts: StreamContexts
    window: int

    async def propagate(
        self, request: segmentation_pb2.PropagateVideoRequest, timeout: float | None, *, start_ns: int
    ) -> AsyncGenerator[segmentation_pb2.PropagateVideoResponse, None]:
        """The responses; the proto lists the errors.  ``start_ns`` is when the call was received."""
        session = await self.lifecycle.find(request.session_id)
        if session.is_live:
            raise InvalidRequest("a live session is tracked by SegmentStream only", field="session_id")
        options = wire.mask_options_from_proto(request.mask_options)
        selection, resume_point = select_frames(request, session)
        context = self.contexts.make(session, self.window, timeout)
        propagation = MaskPropagation(session, context, resume_point=resume_point)
        responses = propagation.run(selection, options, start_ns=start_ns)
        async with self.lifecycle.keeping_alive(session), contextlib.aclosing(responses):
            async for response in responses:
                yield response


def select_frames(
    request: segmentation_pb2.PropagateVideoRequest, session: GatewaySession
) -> tuple[FrameSelection, ResumePoint | None]:
    """The frames to propagate over, or the point at which to resume.  Raises InvalidRequest."""
    reverse = wire.reverse_from_proto(request.direction)
    start = request.start_frame_index if request.HasField("start_frame_index") else None
    if request.resume_token:
        for field, is_set in (
            ("start_frame_index", start is not None),
            ("max_frames", bool(request.max_frames)),
            ("direction", bool(request.direction)),
        ):
            if is_set:
                raise InvalidRequest("the resume token determines the frames", field=field)
        resume_point = ResumePoint.parse(request.resume_token, session_id=session.session_id)
        return FrameSelection(None, 0), resume_point
    return frame_selection(session, start, request.max_frames, reverse=reverse), None


class MaskPropagation(Propagation[segmentation_pb2.PropagateVideoResponse]):
    """One call of PropagateVideo."""

    def _response(
        self, frame: types_pb2.FrameMasks, resume_token: str
    ) -> segmentation_pb2.PropagateVideoResponse:
        return segmentation_pb2.PropagateVideoResponse(frame=frame, resume_token=resume_token)
