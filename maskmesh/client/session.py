"""The client's view of one session: a video and the objects in it."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from maskmesh import wire
from maskmesh.errors import Unavailable, translate_rpc_errors
from maskmesh.history import ClearRecord, FrameRange, HistoryEntry, PromptRecord, SessionState
from maskmesh.images import ImageLike, as_image
from maskmesh.masks import BinaryMask, BoolArray, LowResLogits, MaskOptions, MaskSpace
from maskmesh.rpc.interceptors import trace_metadata
from maskmesh.rpc.stream_call import RESUME_SECONDS, RESUMPTIONS, StreamCall
from maskmesh.types import (
    Box,
    FrameMasks,
    ModelInfo,
    Point,
    Prompt,
)
from maskmesh.v1 import segmentation_pb2

CHUNK_BYTES = 2**20
DEFAULT_MASKS = MaskOptions()


class VideoSession:
    """One video and the objects in it.  Made by :meth:`AsyncClient.session`."""

    def __init__(
        self,
        stub: Any,
        described: segmentation_pb2.CreateSessionResponse | segmentation_pb2.GetSessionResponse,
        trace_id: str,
        timeout: float | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._stub = stub
        self._headers = headers
        self._timeout = timeout
        self.session_id: str = described.session_id
        self.ttl: timedelta = described.ttl.ToTimedelta()
        """How long it may stay unused, as the server decided."""
        self.model: ModelInfo = wire.model_info_from_proto(described.model)
        self.trace_id = trace_id
        """The trace to which those of its frames are linked."""
        self.revision = 0
        """The revision after the last change that was made here."""
        self.num_frames = 0
        self.width = 0
        self.height = 0
        self.frames_per_second = 0.0
        self._said: list[HistoryEntry] = []
        if isinstance(described, segmentation_pb2.GetSessionResponse):
            self.revision = described.revision
            self.num_frames = described.num_frames
            self.width, self.height = described.width, described.height
            self.frames_per_second = described.frames_per_second
            self._said = wire.history_from_proto(described.history)

    async def append_video(self, video: bytes | Path | str, *, idempotency_key: str = "") -> int:
        """Send a video file, by path or as bytes; returns the number of its frames.

        ``idempotency_key`` as for :meth:`add_prompt`.  Raises InvalidVideo where it cannot be read,
        InvalidRequest where the session has frames already.
        """
        if isinstance(video, bytes):
            chunks: Iterable[bytes] = (
                video[i : i + CHUNK_BYTES] for i in range(0, max(len(video), 1), CHUNK_BYTES)
            )
        else:
            chunks = _file_chunks(Path(video))
        messages = (segmentation_pb2.AppendFramesRequest(video_chunk=chunk) for chunk in chunks)
        return await self._append(messages, None, idempotency_key)

    async def append_frames(
        self,
        frames: Iterable[ImageLike],
        *,
        first_frame_index: int | None = None,
        idempotency_key: str = "",
    ) -> int:
        """Send images, all of one size; returns the number of frames in the session.

        ``first_frame_index`` is the index that the first of them must get, None for any: it keeps the frames
        of two clients apart.  ``idempotency_key`` as for :meth:`add_prompt`.
        Raises InvalidImage, ImageTooLarge, InvalidRequest, Conflict; nothing is added then.
        """
        messages = (
            segmentation_pb2.AppendFramesRequest(frame=wire.image_to_proto(as_image(f))) for f in frames
        )
        return await self._append(messages, first_frame_index, idempotency_key)

    async def get_state(self) -> SessionState:
        """What the session holds: frames, objects, and all that was said.  Renews the lease."""
        request = segmentation_pb2.GetSessionRequest(session_id=self.session_id)
        with translate_rpc_errors():
            response = await self._stub.GetSession(request, timeout=self._timeout)
        self.revision = response.revision
        return wire.session_state_from_proto(response)

    async def add_prompt(
        self,
        frame_index: int,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: BoolArray | BinaryMask | None = None,
        clear_previous: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> FrameMasks:
        """Say where an object is on a frame; returns its mask there.

        points: (x, y), or (x, y, label) with 1 for positive and 0 for negative, in pixels of the frame.
        box: (x0, y0, x1, y1).  mask: [height, width], bool, of the frame's size.  Points add up over
        calls; ``clear_previous`` starts over.  A prompt on a frame that was tracked corrects it: the mask
        holds, and what is tracked from there on follows it.
        With ``expected_revision``, that of :attr:`revision` or :meth:`get_state`, nothing is changed where
        another client was faster.
        After a deadline or a cancellation the prompt may have been taken in, or not: whoever has to know
        gives an ``idempotency_key``, and asks again with the same one.
        Raises InvalidPrompt, InvalidRequest, FrameOutOfMemory, Conflict.
        """
        request = segmentation_pb2.AddPromptRequest(
            session_id=self.session_id,
            frame_index=frame_index,
            obj_id=obj_id,
            prompt=wire.prompt_to_proto(Prompt.of(points=points, box=box, mask=mask)),
            clear_previous=clear_previous,
            mask_options=wire.mask_options_to_proto(mask_options),
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change(self._stub.AddPrompt, request)
        said = wire.recorded_prompt_from_proto(request.prompt)
        self._said.append(PromptRecord(frame_index, obj_id, said, clear_previous))
        return wire.frame_masks_from_proto(response.frame)

    async def clear_prompts(
        self,
        frame_index: int,
        obj_id: int,
        *,
        expected_revision: int | None = None,
        idempotency_key: str = "",
    ) -> list[int]:
        """Forget what was said of an object on a frame; returns the objects that remain.

        An object of which nothing is said any more is removed.  The last arguments are those of
        :meth:`add_prompt`.  Raises ObjectNotFound, PromptNotFound,
        Conflict.
        """
        request = segmentation_pb2.ClearPromptsRequest(
            session_id=self.session_id,
            frame_index=frame_index,
            obj_id=obj_id,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change(self._stub.ClearPrompts, request)
        self._said.append(ClearRecord(frame_index, obj_id))
        self._forget_removed(response.obj_ids)
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
        """Track all objects, frame by frame, forward or in reverse.

        ``start_frame_index`` None means the first prompted frame, ``max_frames`` 0 all to the end, in
        reverse to the beginning.  Leaving the loop stops the server.  Where the connection breaks it goes
        on with the next frame as soon as the gateway is back, up to a few seconds after each frame; a
        ``resume_token``, that of the last frame that was received, goes on in the same way later, or in
        another process (without any of the arguments before, but ``mask_options``).
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
        attempts = RESUMPTIONS
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            call = self._stub.PropagateVideo(request, timeout=left)
            try:
                with translate_rpc_errors():
                    async for response in call:
                        request = segmentation_pb2.PropagateVideoRequest(
                            session_id=self.session_id,
                            resume_token=response.resume_token,
                            mask_options=request.mask_options,
                        )
                        frame = wire.frame_masks_from_proto(response.frame)
                        self._note_tracked(frame.frame_index, reverse=reverse)
                        yield dataclasses.replace(frame, resume_token=response.resume_token)
                        attempts = RESUMPTIONS
                return
            except Unavailable:
                if not request.resume_token or not attempts:
                    raise
                attempts -= 1
                await asyncio.sleep(RESUME_SECONDS)
            finally:
                call.cancel()

    async def remove_object(
        self, obj_id: int, *, expected_revision: int | None = None, idempotency_key: str = ""
    ) -> list[int]:
        """Forget one object; returns those that remain.

        The last arguments are those of :meth:`add_prompt`.  Raises ObjectNotFound, Conflict.
        """
        request = segmentation_pb2.RemoveObjectRequest(
            session_id=self.session_id,
            obj_id=obj_id,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        response = await self._change(self._stub.RemoveObject, request)
        self._forget_removed(response.obj_ids)
        return list(response.obj_ids)

    async def reset(self, *, expected_revision: int | None = None, idempotency_key: str = "") -> None:
        """Forget all objects; the frames stay.

        The arguments are those of :meth:`add_prompt`.  Raises Conflict.
        """
        request = segmentation_pb2.ResetSessionRequest(
            session_id=self.session_id,
            idempotency_key=idempotency_key or new_key(),
            expected_revision=expected_revision,
        )
        await self._change(self._stub.ResetSession, request)
        self._said.clear()

    async def replay(self, history: Sequence[HistoryEntry]) -> None:
        """Do again what was done in another session with the same frames, as :meth:`get_state` tells it.

        The objects are then as they were there.  Raises what the calls raise that it makes.
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
                case FrameRange(first, _, reverse):
                    tracked = self.propagate(
                        start_frame_index=first,
                        max_frames=entry.num_frames,
                        reverse=reverse,
                        mask_options=MaskOptions(space=MaskSpace.MODEL),
                    )
                    async for _ in tracked:
                        pass

    async def recover(self, *, track: bool = False) -> None:
        """After SessionLost: say again what was said by this object, and before it was attached.

        Propagation can then go on after the frame that the error names, from the prompts alone; with
        ``track`` frames are tracked again as well, and the objects are as they were.  Raises what the calls
        raise that it makes.
        """
        said, self._said = self._said, []
        try:
            await self.replay(said if track else [e for e in said if not isinstance(e, FrameRange)])
        except BaseException:
            self._said = said
            raise

    async def delete(self) -> None:
        """End the session.  Raises SessionNotFound where it is over already."""
        request = segmentation_pb2.DeleteSessionRequest(session_id=self.session_id, idempotency_key=new_key())
        with translate_rpc_errors():
            await self._stub.DeleteSession(request, timeout=self._timeout)

    def _note_tracked(self, frame_index: int, *, reverse: bool) -> None:
        last = self._said[-1] if self._said else None
        if isinstance(last, FrameRange) and last.followed_by(frame_index, reverse=reverse):
            self._said[-1] = dataclasses.replace(last, last_frame_index=frame_index)
        else:
            self._said.append(FrameRange(frame_index, frame_index, reverse))

    def _forget_removed(self, obj_ids: Sequence[int]) -> None:
        """What was said of objects that are gone changes nothing of the others."""
        self._said = [e for e in self._said if isinstance(e, FrameRange) or e.obj_id in obj_ids]

    async def _change(self, method: Any, request: Any) -> Any:
        with translate_rpc_errors():
            response = await method(request, timeout=self._timeout)
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
        finish = segmentation_pb2.AppendFramesFinish()
        call = StreamCall(self._stub.AppendFrames(metadata=trace_metadata(self._headers)))
        try:
            with translate_rpc_errors():
                try:
                    await call.write(segmentation_pb2.AppendFramesRequest(config=config))
                    for content in contents:
                        await call.write(content)
                    await call.write(segmentation_pb2.AppendFramesRequest(finish=finish))
                    await call.done_writing()
                except grpc.RpcError:
                    pass  # the server ended the call early: its answer says why
                response = await call.answer()
        finally:
            call.cancel()  # where it is not over yet, nothing is added
        self.num_frames = response.num_frames
        self.width, self.height = response.width, response.height
        self.frames_per_second = response.frames_per_second
        return self.num_frames


def new_key() -> str:
    """An idempotency key."""
    return uuid.uuid4().hex


def _file_chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        empty = True
        while chunk := file.read(CHUNK_BYTES):
            empty = False
            yield chunk
        if empty:
            yield b""
