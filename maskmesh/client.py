"""The client: sessions and images over gRPC, in plain values.

    async with AsyncClient("localhost:50050") as client, client.session() as session:
        await session.append_video("clip.mp4")
        await session.add_prompt(0, 1, points=[(480, 270)])
        async for frame in session.propagate():
            print(frame.frame_index, frame.objects[1].mask.decode().sum())

Errors of the server are raised as the classes of :mod:`maskmesh.errors`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np

from maskmesh import wire
from maskmesh.channels import open_channel
from maskmesh.errors import SessionNotFound, raising_ours
from maskmesh.interceptors import TRACE_ID_KEY
from maskmesh.types import (
    BoolArray,
    Box,
    ByteArray,
    EncodedImage,
    FrameMasks,
    Image,
    ImageMasks,
    MaskFormat,
    ModelInfo,
    ObjectMask,
    Point,
    Prompt,
    RawImage,
    RleMask,
)
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc

MAX_MESSAGE_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20

ImageLike: TypeAlias = ByteArray | bytes | Path | str
"""Pixels [height, width, 3] (uint8, RGB), the bytes of a JPEG or PNG file, or a path to one."""


class AsyncClient:
    """A connection to a gateway.  Connects when it is first used.

    ``timeout`` is the deadline in seconds of every call but PropagateVideo and AppendFrames, None for none.
    """

    def __init__(self, endpoint: str, *, timeout: float | None = None) -> None:
        self._channel = open_channel(endpoint, max_message_bytes=MAX_MESSAGE_BYTES)
        self._stub = segmentation_pb2_grpc.SegmentationServiceStub(self._channel)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def segment_image(
        self,
        image: ImageLike,
        prompts: Mapping[int, Prompt],
        *,
        multimask_output: bool = False,
        mask_format: MaskFormat = MaskFormat.COCO_RLE,
    ) -> ImageMasks:
        """Segment objects on one image; ``prompts`` by ``obj_id``.

        With ``multimask_output`` each object has three masks, the most confident first.
        Raises InvalidImage, ImageTooLarge, InvalidPrompt.
        """
        request = segmentation_pb2.SegmentImageRequest(
            image=wire.image_to_proto(_image(image)),
            multimask_output=multimask_output,
            mask_format=wire.mask_format_to_proto(mask_format),
        )
        for obj_id, prompt in prompts.items():
            request.prompts.add(obj_id=obj_id, prompt=wire.prompt_to_proto(prompt))
        with raising_ours():
            response = await self._stub.SegmentImage(request, timeout=self._timeout)
        objects: dict[int, list[ObjectMask]] = {}
        for message in response.masks:
            objects.setdefault(message.obj_id, []).append(wire.object_mask_from_proto(message))
        return ImageMasks(objects, response.width, response.height, response.trace_id)

    async def create_session(self, *, ttl: timedelta | None = None) -> "VideoSession":
        """Begin a session that the caller deletes; :meth:`session` does both.

        ``ttl`` is how long it may stay unused; the server may shorten it.
        """
        request = segmentation_pb2.CreateSessionRequest()
        if ttl is not None:
            request.ttl.FromTimedelta(ttl)
        with raising_ours():
            call = self._stub.CreateSession(request, timeout=self._timeout)
            response = await call
            metadata = dict(await call.trailing_metadata() or ())
        return VideoSession(self._stub, response, str(metadata.get(TRACE_ID_KEY, "")), self._timeout)

    @asynccontextmanager
    async def session(self, *, ttl: timedelta | None = None) -> AsyncIterator["VideoSession"]:
        """A session that is deleted at the end."""
        session = await self.create_session(ttl=ttl)
        try:
            yield session
        finally:
            try:
                await session.delete()
            except SessionNotFound:
                pass  # it expired, or was deleted already


class VideoSession:
    """One video and the objects in it.  Made by :meth:`AsyncClient.session`."""

    def __init__(
        self,
        stub: Any,
        created: segmentation_pb2.CreateSessionResponse,
        trace_id: str,
        timeout: float | None,
    ) -> None:
        self._stub = stub
        self._timeout = timeout
        self.session_id: str = created.session_id
        self.ttl: timedelta = created.ttl.ToTimedelta()
        """How long it may stay unused, as the server decided."""
        self.model: ModelInfo = wire.model_info_from_proto(created.model)
        self.trace_id = trace_id
        """The trace to which those of its frames are linked."""
        self.num_frames = 0
        self.width = 0
        self.height = 0
        self.frames_per_second = 0.0

    async def append_video(self, video: bytes | Path | str) -> int:
        """Send a video file, by path or as bytes; returns the number of its frames.

        Raises InvalidVideo where it cannot be read, InvalidRequest where the session has frames already.
        """
        if isinstance(video, bytes):
            chunks: Iterable[bytes] = (
                video[i : i + CHUNK_BYTES] for i in range(0, max(len(video), 1), CHUNK_BYTES)
            )
        else:
            chunks = _file_chunks(Path(video))
        return await self._append(segmentation_pb2.AppendFramesRequest(video_chunk=chunk) for chunk in chunks)

    async def append_frames(self, frames: Iterable[ImageLike]) -> int:
        """Send images, all of one size; returns the number of frames in the session.

        Raises InvalidImage, ImageTooLarge, InvalidRequest; nothing is added then.
        """
        return await self._append(
            segmentation_pb2.AppendFramesRequest(frame=wire.image_to_proto(_image(frame))) for frame in frames
        )

    async def add_prompt(
        self,
        frame_index: int,
        obj_id: int,
        *,
        points: Sequence[Point | Sequence[float]] = (),
        box: Box | Sequence[float] | None = None,
        mask: BoolArray | RleMask | None = None,
        clear_previous: bool = False,
        mask_format: MaskFormat = MaskFormat.COCO_RLE,
    ) -> FrameMasks:
        """Say where an object is on a frame; returns its mask there.

        points: (x, y), or (x, y, label) with 1 for positive and 0 for negative, in pixels of the frame.
        box: (x0, y0, x1, y1).  mask: [height, width], bool, of the frame's size.  Points add up over
        calls; ``clear_previous`` starts over.  Raises InvalidPrompt, InvalidRequest, FrameOutOfMemory.
        """
        prompt = Prompt.of(points=points, box=box, mask=mask)
        request = segmentation_pb2.AddPromptRequest(
            session_id=self.session_id,
            frame_index=frame_index,
            obj_id=obj_id,
            prompt=wire.prompt_to_proto(prompt),
            clear_previous=clear_previous,
            mask_format=wire.mask_format_to_proto(mask_format),
        )
        with raising_ours():
            response = await self._stub.AddPrompt(request, timeout=self._timeout)
        return wire.frame_masks_from_proto(response.frame)

    async def propagate(
        self,
        *,
        start_frame_index: int | None = None,
        max_frames: int = 0,
        mask_format: MaskFormat = MaskFormat.COCO_RLE,
        timeout: float | None = None,
    ) -> AsyncIterator[FrameMasks]:
        """Track all objects forward, frame by frame.

        ``start_frame_index`` None means the first prompted frame, ``max_frames`` 0 all.  Leaving the loop
        stops the server.  Raises NothingPrompted, SessionBusy, InvalidRequest.
        """
        request = segmentation_pb2.PropagateVideoRequest(
            session_id=self.session_id,
            start_frame_index=start_frame_index,
            max_frames=max_frames,
            mask_format=wire.mask_format_to_proto(mask_format),
        )
        call = self._stub.PropagateVideo(request, timeout=timeout)
        try:
            with raising_ours():
                async for response in call:
                    yield wire.frame_masks_from_proto(response.frame)
        finally:
            call.cancel()

    async def remove_object(self, obj_id: int) -> list[int]:
        """Forget one object; returns those that remain.  Raises ObjectNotFound."""
        request = segmentation_pb2.RemoveObjectRequest(session_id=self.session_id, obj_id=obj_id)
        with raising_ours():
            response = await self._stub.RemoveObject(request, timeout=self._timeout)
        return list(response.obj_ids)

    async def reset(self) -> None:
        """Forget all objects; the frames stay."""
        request = segmentation_pb2.ResetSessionRequest(session_id=self.session_id)
        with raising_ours():
            await self._stub.ResetSession(request, timeout=self._timeout)

    async def delete(self) -> None:
        """End the session.  Raises SessionNotFound where it is over already."""
        request = segmentation_pb2.DeleteSessionRequest(session_id=self.session_id)
        with raising_ours():
            await self._stub.DeleteSession(request, timeout=self._timeout)

    async def _append(self, contents: Iterable[segmentation_pb2.AppendFramesRequest]) -> int:
        config = segmentation_pb2.AppendFramesConfig(session_id=self.session_id)
        finish = segmentation_pb2.AppendFramesFinish()
        call = self._stub.AppendFrames()
        try:
            with raising_ours():
                try:
                    await call.write(segmentation_pb2.AppendFramesRequest(config=config))
                    for content in contents:
                        await call.write(content)
                    await call.write(segmentation_pb2.AppendFramesRequest(finish=finish))
                    await call.done_writing()
                except asyncio.InvalidStateError:
                    pass  # the server ended the call early: its answer says why
                response = await call
        finally:
            call.cancel()  # where it is not over yet, nothing is added
        self.num_frames = response.num_frames
        self.width, self.height = response.width, response.height
        self.frames_per_second = response.frames_per_second
        return self.num_frames


def _image(image: ImageLike) -> Image:
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"pixels are [height, width, 3] uint8, got {list(image.shape)} {image.dtype}")
        return RawImage(image)
    if isinstance(image, bytes):
        return EncodedImage(image)
    return EncodedImage(Path(image).read_bytes())


def _file_chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        empty = True
        while chunk := file.read(CHUNK_BYTES):
            empty = False
            yield chunk
        if empty:
            yield b""
