"""The client's view of one session: a video and the objects in it."""

import dataclasses
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from maskmesh import wire
from maskmesh.aio import RetryWindow
from maskmesh.client.connection import GatewayConnection
from maskmesh.client.point_tracks import followed_points, point_request
from maskmesh.client.prompts import integer, prompt_message
from maskmesh.client.resumed_call import resumed_responses
from maskmesh.client.session_history import SessionHistory
from maskmesh.client.upload import frame_messages, upload, video_messages
from maskmesh.concepts import DEFAULT_OPTIONS, Concept, ConceptOptions, SessionConcept, as_concept
from maskmesh.erasing import ErasedFrame, EraseOptions
from maskmesh.errors import Unavailable
from maskmesh.history import (
    ClearRecord,
    ConceptRemovalRecord,
    FrameRange,
    HistoryEntry,
    PromptRecord,
    RemovalRecord,
    SessionState,
)
from maskmesh.masks import LowResLogits, MaskOptions, MaskSpace
from maskmesh.media.pictures import ImageLike
from maskmesh.points import FramePoints, MotionOptions, PointGrid, PointQuery
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.types import Box, FrameMasks, MaskLike, ModelInfo, Point
from maskmesh.v1 import erase_pb2, segmentation_pb2

DEFAULT_MASKS = MaskOptions()

# How long a stream that broke is resumed without a result, and the pause before each attempt.
RESUME_SECONDS = 15.0
RESUME_PAUSE_SECONDS = 0.5


class VideoSession:
    """One video and the objects in it.  Made by :meth:`AsyncClient.session`."""

    def __init__(
        self,
        connection: GatewayConnection,
        description: segmentation_pb2.CreateSessionResponse | segmentation_pb2.GetSessionResponse,
        trace_id: str,
    ) -> None:
        self._connection = connection
        self.session_id: str = description.session_id
        self.ttl: timedelta = description.ttl.ToTimedelta()
        """How long the session may stay unused, as the server decided."""
        self.model: ModelInfo = wire.model_info_from_proto(description.model)
        self.trace_id = trace_id
        """The trace to which the traces of its frames link."""
        self.revision = 0
        """The revision after the last change by this object."""
        self.num_frames = 0
        self.width = 0
        self.height = 0
        self.frames_per_second = 0.0
        self._history = SessionHistory()
        if isinstance(description, segmentation_pb2.GetSessionResponse):
            self.revision = description.revision
            self.num_frames = description.num_frames
            self.width, self.height = description.width, description.height
            self.frames_per_second = description.frames_per_second
            self._history = SessionHistory(
                wire.history_from_proto(description.history),
                wire.session_objects_from_proto(description.objects),
            )

    async def append_video(self, video: bytes | Path | str, *, idempotency_key: str = "") -> int:
        """Upload a video file, given by path or as bytes; returns the number of its frames.

        ``idempotency_key`` as for :meth:`add_prompt`.  Raises InvalidVideo if it cannot be read,
        InvalidRequest if the session has frames already.
        """
        return await self._append(video_messages(video), None, idempotency_key)

    async def append_frames(
        self,
        frames: Iterable[ImageLike],
        *,
        first_frame_index: int | None = None,
        idempotency_key: str = "",
    ) -> int:
        """Upload images, all of one size; returns the number of frames in the session.

        ``first_frame_index`` is the index that the first of them must get, None for any; with it two clients
        do not mix their frames.  ``idempotency_key`` as for :meth:`add_prompt`.
        Raises InvalidImage, ImageTooLarge, InvalidRequest, Conflict; then nothing is added.
        """
        return await self._append(frame_messages(frames), first_frame_index, idempotency_key)

    async def get_state(self) -> SessionState:
        """The session's frames, objects and history.  Renews the lease."""
        request = segmentation_pb2.GetSessionRequest(session_id=self.session_id)
        response = await self._connection.call("GetSession", request)
        self.revision = response.revision
        return wire.session_state_from_proto(response)

    async def add_prompt(
        self,
        frame_index: int,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: MaskLike | None = None,
        clear_previous: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> FrameMasks:
        """Prompt an object on a frame; returns its mask there.

        points: (x, y), or (x, y, label) with 1 for positive and 0 for negative, in pixels of the frame.
        box: (x0, y0, x1, y1).  mask: of the frame's size, in any form that
        :func:`maskmesh.masks.values.binary_mask` takes.  Coordinates up to a pixel outside the frame are
        moved to its edge.  Points add up over calls; ``clear_previous`` starts over.  A prompt on a tracked
        frame corrects it: the mask stays, and later propagations follow it.
        With ``expected_revision``, from :attr:`revision` or :meth:`get_state`, the call fails if another
        client has changed the session since.
        After a deadline or a cancellation the prompt may have been added or not.  To find out, repeat the
        call with the same ``idempotency_key``.
        Raises InvalidPrompt, InvalidRequest, FrameOutOfMemory, Conflict.
        """
        request = segmentation_pb2.AddPromptRequest(
            session_id=self.session_id,
            frame_index=integer("frame_index", frame_index),
            obj_id=integer("obj_id", obj_id),
            prompt=prompt_message(points=points, box=box, mask=mask),
            clear_previous=clear_previous,
            mask_options=wire.mask_options_to_proto(mask_options),
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change("AddPrompt", request)
        prompt = wire.recorded_prompt_from_proto(request.prompt)
        self._history.add(PromptRecord(frame_index, obj_id, prompt, clear_previous))
        return wire.frame_masks_from_proto(response.frame)

    async def add_concept(
        self,
        concept_id: int,
        concept: Concept | str,
        *,
        frame_index: int | None = 0,
        options: ConceptOptions = DEFAULT_OPTIONS,
        mask_options: MaskOptions = DEFAULT_MASKS,
        first_obj_id: int = 0,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> FrameMasks | None:
        """Find all objects of a concept on a frame and follow them; returns their masks there.

        concept: a phrase, or a :class:`Concept` with a phrase, with boxes on the frame, or with both.
        Tracked frames are searched for further objects by the phrase; objects that were found by boxes alone
        are tracked like clicked ones.  ``frame_index`` None finds nothing now, but on the frames that are
        tracked later, and returns None.  Objects have numbers from the server; prompts and removals work on
        them.  The last arguments are those of :meth:`add_prompt`.
        Raises InvalidPrompt, InvalidRequest, FrameOutOfMemory, Conflict.
        """
        added = SessionConcept(integer("concept_id", concept_id), as_concept(concept), frame_index, options)
        request = segmentation_pb2.AddConceptRequest(
            session_id=self.session_id,
            concept_id=added.concept_id,
            concept=wire.concept_to_proto(added.concept),
            frame_index=None if frame_index is None else integer("frame_index", frame_index),
            options=wire.concept_options_to_proto(options),
            mask_options=wire.mask_options_to_proto(mask_options),
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
            first_obj_id=first_obj_id,
        )
        response = await self._change("AddConcept", request)
        self._history.add(dataclasses.replace(added, first_obj_id=response.first_obj_id))
        if not response.HasField("frame"):
            return None
        frame = wire.frame_masks_from_proto(response.frame)
        self._history.add_frame(frame, tracked=False)
        return frame

    async def remove_concept(
        self,
        concept_id: int,
        *,
        keep_objects: bool = False,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> list[int]:
        """Remove a concept and its objects; returns the objects that remain.

        With ``keep_objects`` its objects stay, and are tracked like clicked ones.  The last arguments are
        those of :meth:`add_prompt`.  Raises ConceptNotFound, Conflict.
        """
        request = segmentation_pb2.RemoveConceptRequest(
            session_id=self.session_id,
            concept_id=integer("concept_id", concept_id),
            keep_objects=keep_objects,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change("RemoveConcept", request)
        self._history.remove_concept(concept_id, keep_objects=keep_objects)
        return list(response.obj_ids)

    async def clear_prompts(
        self,
        frame_index: int,
        obj_id: int,
        *,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> list[int]:
        """Remove the prompts of an object on a frame; returns the objects that remain.

        An object without prompts is removed, unless a concept found it.  The last arguments are those of
        :meth:`add_prompt`.
        Raises ObjectNotFound, PromptNotFound, Conflict.
        """
        request = segmentation_pb2.ClearPromptsRequest(
            session_id=self.session_id,
            frame_index=frame_index,
            obj_id=obj_id,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change("ClearPrompts", request)
        self._history.add(ClearRecord(frame_index, obj_id))
        if obj_id not in response.obj_ids:
            self._history.remove_object(obj_id)
        return list(response.obj_ids)

    async def propagate(
        self,
        *,
        start_frame_index: int | None = None,
        max_frames: int = 0,
        reverse: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        resume_token: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[FrameMasks, None]:
        """Track all objects frame by frame, forward or in reverse.

        ``start_frame_index`` None is the first prompted frame; ``max_frames`` 0 means all to the end, in
        reverse to the beginning.  Leaving the loop stops the server.  If the connection breaks, the
        propagation continues with the next frame as soon as a gateway is reachable, within
        ``RESUME_SECONDS``.  The ``resume_token`` of the last received frame continues it later or in another
        process; then only ``mask_options`` may be given beside it.
        With concepts, each frame is delivered as many frames later as their ``hotstart_delay``.
        Raises NothingPrompted, SessionBusy, InvalidRequest, FrameOutOfMemory, Unavailable.
        """
        request = segmentation_pb2.PropagateVideoRequest(
            session_id=self.session_id,
            start_frame_index=start_frame_index,
            max_frames=max_frames,
            direction=wire.direction_to_proto(reverse=reverse),
            mask_options=wire.mask_options_to_proto(mask_options),
            resume_token=resume_token,
        )
        if resume_token and not reverse:
            request.ClearField("direction")
        deadline = None if timeout is None else time.monotonic() + timeout
        window = RetryWindow(RESUME_SECONDS, first_pause=RESUME_PAUSE_SECONDS)
        while True:
            remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            call = self._connection.stream_responses("PropagateVideo", request, remaining)
            try:
                with translate_rpc_errors():
                    async for response in call:
                        request = segmentation_pb2.PropagateVideoRequest(
                            session_id=self.session_id,
                            resume_token=response.resume_token,
                            mask_options=request.mask_options,
                        )
                        frame = wire.frame_masks_from_proto(response.frame)
                        self._history.add_frame(frame, reverse=reverse)
                        yield dataclasses.replace(frame, resume_token=response.resume_token)
                        window.reset()
                return
            except Unavailable as error:
                if not request.resume_token:
                    raise
                await window.wait(error)
            finally:
                call.cancel()

    async def track_points(
        self,
        points: Sequence[PointQuery] = (),
        *,
        grids: Sequence[PointGrid] = (),
        motion: MotionOptions | None = None,
        max_frames: int = 0,
        resume_token: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[FramePoints, None]:
        """Follow points through the video, from the frames on which they are chosen.

        A grid with an ``obj_id`` chooses points inside the mask of that object.  The first frame is the first
        one with a point; ``max_frames`` 0 means all to the end.  With ``motion``, frames have the windows
        that end with them.  If the connection breaks, the call continues as :meth:`propagate` does.  The
        ``resume_token`` of the last received frame, with the same points, continues it later or in another
        process.  Raises InvalidRequest, ObjectNotFound, FrameOutOfMemory, Unavailable.
        """
        request = point_request(self.session_id, points, grids, motion)
        request.max_frames, request.resume_token = max_frames, resume_token
        async for frame in followed_points(self._connection, request, timeout):
            yield frame

    async def erase(
        self,
        options: EraseOptions = EraseOptions(),  # noqa: B008 - immutable
        *,
        start_frame: int | None = None,
        max_frames: int = 0,
        resume_token: str = "",
        timeout: float | None = None,
    ) -> AsyncGenerator[ErasedFrame, None]:
        """Track the objects, and return the frames without them.

        The first frame is the earliest prompted one or ``start_frame``; ``max_frames`` 0 means all to the
        end. If the connection breaks, the call continues as :meth:`propagate` does.  The ``resume_token`` of
        the last received frame, with the same options, continues it later or in another process; content that
        only frames more than 16 before it have shown is then invented.  Raises InvalidRequest,
        ObjectNotFound, NothingPrompted, SessionBusy, ResourceExhausted, Unavailable.
        """
        request = erase_pb2.EraseObjectsRequest(
            session_id=self.session_id,
            options=wire.erase_options_to_proto(options),
            start_frame_index=start_frame,
            max_frames=max_frames,
            resume_token=resume_token,
        )
        async for response in resumed_responses(self._connection, "EraseObjects", request, timeout):
            yield wire.erased_frame_from_proto(response)

    async def remove_object(
        self, obj_id: int, *, expected_revision: int | None = None, idempotency_key: str = ""
    ) -> list[int]:
        """Remove one object; returns those that remain.

        The last arguments are those of :meth:`add_prompt`.  Raises ObjectNotFound, Conflict.
        """
        request = segmentation_pb2.RemoveObjectRequest(
            session_id=self.session_id,
            obj_id=obj_id,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change("RemoveObject", request)
        self._history.remove_object(obj_id)
        return list(response.obj_ids)

    async def reset(self, *, expected_revision: int | None = None, idempotency_key: str = "") -> None:
        """Remove all objects and concepts; the frames stay.

        The arguments are those of :meth:`add_prompt`.  Raises Conflict.
        """
        request = segmentation_pb2.ResetSessionRequest(
            session_id=self.session_id,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        await self._change("ResetSession", request)
        self._history = SessionHistory()

    async def replay(self, history: Sequence[HistoryEntry]) -> None:
        """Repeat the history of another session with the same frames, from :meth:`get_state`.

        The objects are then the same as there.  Raises what the repeated calls raise.
        """
        for entry in history:
            match entry:
                case PromptRecord(frame_index, obj_id, prompt, clear_previous):
                    await self.add_prompt(
                        frame_index,
                        obj_id,
                        points=prompt.points,
                        box=prompt.box,
                        mask=prompt.mask if not isinstance(prompt.mask, LowResLogits) else None,
                        clear_previous=clear_previous,
                    )
                case ClearRecord(frame_index, obj_id):
                    await self.clear_prompts(frame_index, obj_id)
                case RemovalRecord(obj_id):
                    await self.remove_object(obj_id)
                case SessionConcept(concept_id, concept, added_on, options, first_obj_id):
                    await self.add_concept(
                        concept_id, concept, frame_index=added_on, options=options, first_obj_id=first_obj_id
                    )
                case ConceptRemovalRecord(concept_id):
                    await self.remove_concept(concept_id, keep_objects=True)
                case FrameRange(first, _, reverse):
                    frames = self.propagate(
                        start_frame_index=first,
                        max_frames=entry.num_frames,
                        reverse=reverse,
                        mask_options=MaskOptions(space=MaskSpace.MODEL),
                    )
                    async for _ in frames:
                        pass

    async def recover(self, *, track: bool = False) -> None:
        """Repeat the session's prompts and concepts after SessionLost.

        A propagation can then continue after the frame that the error names, conditioned by the prompts
        alone; with ``track`` the frames before are tracked again, and the objects are as they were.  Without
        it, what was done to objects that concepts found is not repeated.
        Raises what the repeated calls raise.
        """
        history, self._history = self._history, SessionHistory()
        try:
            await self.replay(history.entries if track else history.without_tracking())
        except BaseException:
            self._history = history
            raise

    async def delete(self) -> None:
        """Delete the session.  Raises SessionNotFound if it has ended already."""
        request = segmentation_pb2.DeleteSessionRequest(session_id=self.session_id, idempotency_key=new_key())
        await self._connection.call("DeleteSession", request)

    async def _change(self, method: str, request: Any) -> Any:
        response = await self._connection.call(method, request)
        self.revision = response.revision
        return response

    async def _append(
        self,
        contents: Iterable[segmentation_pb2.AppendFramesRequest],
        first_frame_index: int | None,
        idempotency_key: str,
    ) -> int:
        config = segmentation_pb2.AppendFramesConfig(
            session_id=self.session_id,
            idempotency_key=idempotency_key or new_key(),
            first_frame_index=first_frame_index,
        )
        response = await upload(self._connection, config, contents)
        self.num_frames = response.num_frames
        self.width, self.height = response.width, response.height
        self.frames_per_second = response.frames_per_second
        return self.num_frames


def new_key() -> str:
    """An idempotency key."""
    return uuid.uuid4().hex
