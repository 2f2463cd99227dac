"""EraseObjects: a propagation whose frames are returned without the objects."""

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from gateway.erase.erase_view import Erasers, EraseView
from gateway.erase.options import erase_options
from gateway.frames.frames import FrameReader
from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import StreamContext, StreamContexts
from gateway.streams.propagation import FrameSelection, Propagation, frame_selection
from gateway.streams.track_call import Result
from maskmesh.errors import InvalidRequest, MaskmeshError, ObjectNotFound
from maskmesh.masks import MaskFormat, MaskOptions
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Image
from maskmesh.v1 import erase_pb2, types_pb2

MASKS = MaskOptions(MaskFormat.PACKED_BITS)

# Frames that are kept from their reading until they are erased.
MAX_IMAGES = 16

# A resumed call tracks so many frames again, whose content it needs.
LEAD_FRAMES = 16


@dataclass(frozen=True, slots=True)
class EraseCalls:
    """Carries out EraseObjects; at most ``window`` frames of a call are in progress."""

    lifecycle: Lifecycle
    contexts: StreamContexts
    erasers: Erasers
    window: int

    async def erase(
        self, request: erase_pb2.EraseObjectsRequest, timeout: float | None, *, start_ns: int
    ) -> AsyncGenerator[erase_pb2.EraseObjectsResponse, None]:
        """The responses; the proto lists the errors.  ``start_ns`` is when the call was received."""
        session = await self.lifecycle.find(request.session_id)
        if session.is_live:
            raise InvalidRequest(
                "objects of a live session are erased by SegmentStream only", field="session_id"
            )
        options = erase_options(request.options, field="options", live=False)
        selection, resume_point = _frames(request, session)
        if resume_point is not None and not resume_point.frames:
            return  # the interrupted call returned the last frame
        context = self.contexts.make(session, self.window, timeout)
        with self.erasers.view(options, session.session_id, field="options") as view:
            propagation = ErasingPropagation(session, context, view, resume_point=resume_point)
            responses = propagation.run(selection, MASKS, start_ns=start_ns)
            async with self.lifecycle.keeping_alive(session), contextlib.aclosing(responses):
                async for response in responses:
                    yield response


def _frames(
    request: erase_pb2.EraseObjectsRequest, session: GatewaySession
) -> tuple[FrameSelection, ResumePoint | None]:
    """The frames of a call, or the point at which to resume.  Raises InvalidRequest."""
    start = request.start_frame_index if request.HasField("start_frame_index") else None
    if not request.resume_token:
        return frame_selection(session, start, request.max_frames), None
    for field, is_set in (("start_frame_index", start is not None), ("max_frames", bool(request.max_frames))):
        if is_set:
            raise InvalidRequest("the resume token determines the frames", field=field)
    point = ResumePoint.parse(request.resume_token, session_id=session.session_id)
    if point.step != 1:
        raise InvalidRequest("the token is not one of EraseObjects", field="resume_token")
    return FrameSelection(None, 0), point


class ErasingPropagation(Propagation[erase_pb2.EraseObjectsResponse]):
    """One call of EraseObjects.

    A result waits for its frame to be erased, meanwhile later frames are encoded and tracked.  With a
    look-ahead, results that wait give their window slots back.
    """

    def __init__(
        self,
        session: GatewaySession,
        context: StreamContext,
        view: EraseView,
        *,
        resume_point: ResumePoint | None,
    ) -> None:
        self._first_returned = -1
        if resume_point is not None:
            self._first_returned = resume_point.next_frame_index
            lead = max(resume_point.start, resume_point.next_frame_index - LEAD_FRAMES)
            resume_point = dataclasses.replace(resume_point, next_frame_index=lead)
        super().__init__(session, context, resume_point=resume_point)
        self._view = view
        self._images: dict[int, Image] = {}  # of frames that were read and not erased yet
        self._recorders: dict[int, StageRecorder] = {}
        self._erased: dict[int, erase_pb2.ErasedImage] = {}
        self._is_checked = False

    def _keep(self, frame_index: int, image: Image) -> None:
        # Frames of results that are held for long are read again.
        self._images[frame_index] = image
        while len(self._images) > MAX_IMAGES:
            del self._images[min(self._images)]

    async def _decided(self) -> AsyncGenerator[tuple[Result, bool], None]:
        waiting: deque[tuple[Result, bool]] = deque()
        delay = self._view.options.eraser.look_ahead
        failure: MaskmeshError | None = None
        with contextlib.closing(self._session.frames.open_reader()) as reader:
            async with contextlib.aclosing(super()._decided()) as decided:
                try:
                    async for result, was_held in decided:
                        waiting.append((result, was_held or bool(delay)))
                        erased = await self._push(result, reader, was_held=was_held)
                        if delay and not was_held:
                            self._free(result.frame.frame_index)
                        if erased is not None:
                            async for each in self._returned(*waiting.popleft(), erased):
                                yield each
                except MaskmeshError as error:
                    if error is not self._failure:
                        raise
                    failure = error  # of a later frame, after those that wait
            while waiting:
                async for each in self._returned(*waiting.popleft(), await self._view.pop()):
                    yield each
            if failure is not None:
                raise failure

    async def _push(
        self, result: Result, reader: FrameReader, *, was_held: bool
    ) -> erase_pb2.ErasedImage | None:
        index = result.frame.frame_index
        self._check(result.frame)
        self._traces[index].received(result, was_held=was_held)
        recorder = self._recorders[index] = self._view.recorder()
        begun_ns = time.time_ns()
        if not was_held:
            recorder.wait(result.received_ns, begun_ns, "previous_frame")
        image = self._images.pop(index, None)
        if image is None:
            image = await reader.read(index)
            recorder.wait(begun_ns, time.time_ns(), "decoder")
        return await self._view.push(image, result.frame, recorder)

    async def _returned(
        self, result: Result, has_no_slot: bool, erased: erase_pb2.ErasedImage
    ) -> AsyncGenerator[tuple[Result, bool], None]:
        """The result, unless an interrupted call has returned it."""
        index = result.frame.frame_index
        if index >= self._first_returned:
            self._erased[index] = erased
            yield result, has_no_slot
            return
        del self._recorders[index]
        self._traces.pop(index).abandoned()
        if not has_no_slot:
            self._free(index)

    def _check(self, frame: types_pb2.FrameMasks) -> None:
        """Refuse objects that the first frame does not have."""
        if self._is_checked:
            return
        self._is_checked = True
        unknown = set(self._view.options.obj_ids) - {mask.obj_id for mask in frame.objects}
        if unknown:
            raise ObjectNotFound(f"there is no object {min(unknown)}", obj_id=min(unknown))

    def _complete(self, result: Result, *, was_held: bool = False) -> types_pb2.FrameMasks:
        index = result.frame.frame_index
        self._traces[index].ran_after_tracker(self._recorders.pop(index).records)
        return self._with_trace(result)

    def _response(self, frame: types_pb2.FrameMasks, resume_token: str) -> erase_pb2.EraseObjectsResponse:
        return erase_pb2.EraseObjectsResponse(
            frame_index=frame.frame_index,
            erased=self._erased.pop(frame.frame_index),
            resume_token=resume_token,
            trace_id=frame.trace_id,
            stage_times=frame.stage_times,
            time=frame.time if frame.HasField("time") else None,
            repeats_previous=frame.repeats_previous,
        )
