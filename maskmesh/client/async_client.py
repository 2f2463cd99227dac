"""The client: sessions and images over gRPC, in plain values.

    async with AsyncClient("localhost:50050") as client, client.session() as session:
        await session.append_video("clip.mp4")
        await session.add_prompt(0, 1, points=[(480, 270)])
        async for frame in session.propagate():
            print(frame.frame_index, frame.objects[1].mask.decode().sum())

Errors of the server are raised as the classes of :mod:`maskmesh.errors`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

from maskmesh import wire
from maskmesh.client.live import LiveStream, OnRejected
from maskmesh.client.session import DEFAULT_MASKS, VideoSession, new_key
from maskmesh.errors import SessionNotFound, translate_rpc_errors
from maskmesh.images import ImageLike, as_image
from maskmesh.masks import MaskOptions
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.interceptors import TRACE_ID_KEY, trace_metadata, tracing
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.rpc.tls import Tls
from maskmesh.types import (
    ImageMasks,
    ObjectMask,
    Prompt,
)
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc

MAX_MESSAGE_BYTES = 64 * 2**20

# Results of a live stream that were received and not asked for yet; beyond, nothing more is received.
LIVE_RESULTS = 1  # what is shown is to be new
WAITING_RESULTS = 64


class AsyncClient:
    """A connection to a gateway.  Connects when it is first used.

    ``timeout`` is the deadline in seconds of every call but PropagateVideo, SegmentStream and AppendFrames,
    None for none.  A call that finds the gateway out of reach is made again for a second or two; calls that
    change something carry a key of their own, so that nothing is done twice.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float | None = None,
        api_key: str = "",
        tls: Tls | None = None,
    ) -> None:
        """``endpoint`` is a gRPC target; several gateways are ``ipv4:host:port,host:port`` or a DNS name.

        ``api_key`` is for gateways that ask for one, ``tls`` for those that speak TLS.  Raises OSError or
        ValueError where its files are not as they should be.
        """
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._channel = open_channel(
            endpoint,
            max_message_bytes=MAX_MESSAGE_BYTES,
            retries=True,
            notices_hangs=True,
            interceptors=tracing(self._headers),
            tls=tls,
        )
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
        mask_options: MaskOptions = DEFAULT_MASKS,
    ) -> ImageMasks:
        """Segment objects on one image; ``prompts`` by ``obj_id``.

        With ``multimask_output`` each object has three masks, the most confident first.
        Raises InvalidImage, ImageTooLarge, InvalidPrompt.
        """
        request = segmentation_pb2.SegmentImageRequest(
            image=wire.image_to_proto(as_image(image)),
            multimask_output=multimask_output,
            mask_options=wire.mask_options_to_proto(mask_options),
        )
        for obj_id, prompt in prompts.items():
            request.prompts.add(obj_id=obj_id, prompt=wire.prompt_to_proto(prompt))
        with translate_rpc_errors():
            response = await self._stub.SegmentImage(request, timeout=self._timeout)
        objects: dict[int, list[ObjectMask]] = {}
        for message in response.masks:
            objects.setdefault(message.obj_id, []).append(wire.object_mask_from_proto(message))
        return ImageMasks(objects, response.width, response.height, response.trace_id)

    async def create_session(self, *, ttl: timedelta | None = None) -> "VideoSession":
        """Begin a session that the caller deletes; :meth:`session` does both.

        ``ttl`` is how long it may stay unused; the server may shorten it.
        """
        request = segmentation_pb2.CreateSessionRequest(idempotency_key=new_key())
        if ttl is not None:
            request.ttl.FromTimedelta(ttl)
        with translate_rpc_errors():
            call = self._stub.CreateSession(request, timeout=self._timeout)
            response = await call
            metadata = dict(await call.trailing_metadata() or ())
        return VideoSession(
            self._stub, response, str(metadata.get(TRACE_ID_KEY, "")), self._timeout, self._headers
        )

    async def attach(self, session_id: str) -> VideoSession:
        """A session that somebody else began, or this process before.  Raises SessionNotFound."""
        request = segmentation_pb2.GetSessionRequest(session_id=session_id)
        with translate_rpc_errors():
            response = await self._stub.GetSession(request, timeout=self._timeout)
        return VideoSession(self._stub, response, "", self._timeout, self._headers)

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

    @asynccontextmanager
    async def stream(
        self,
        *,
        skip: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
        ttl: timedelta | None = None,
        resume_token: str = "",
        on_rejected: OnRejected | None = None,
    ) -> AsyncIterator[LiveStream]:
        """A live stream, whose session is deleted at the end; what is under way then is dropped.

        Where it ends by an exception, or by :meth:`LiveStream.leave`, the session stays for its ``ttl``.
        With ``skip`` frames are left out that come faster than they are tracked, as for a camera; without
        it :meth:`LiveStream.send` waits.  ``ttl`` is how long the session stays after the stream broke;
        ``resume_token`` of its last result goes on with it.  ``on_rejected`` is told of frames that cannot
        be used.
        """
        config = segmentation_pb2.StreamConfig(
            mask_options=wire.mask_options_to_proto(mask_options),
            overload=segmentation_pb2.OVERLOAD_POLICY_SKIP if skip else segmentation_pb2.OVERLOAD_POLICY_WAIT,
            resume_token=resume_token,
        )
        if ttl is not None:
            config.ttl.FromTimedelta(ttl)
        results = LIVE_RESULTS if skip else WAITING_RESULTS

        def connect() -> StreamCall:
            return StreamCall(self._stub.SegmentStream(metadata=trace_metadata(self._headers)))

        stream = LiveStream(connect, on_rejected, max_results=results, skips=skip)
        try:
            await stream.open(config)
            yield stream
        except BaseException:
            await stream.leave()
            raise
        if not stream.was_left:
            await stream.leave()
            with contextlib.suppress(SessionNotFound):  # it came to its end
                await (await self.attach(stream.session_id)).delete()
