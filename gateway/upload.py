"""AppendFrames: an upload is added completely or not at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

from gateway.api_keys import Caller
from gateway.frames.frame_store import Addition, FrameStore
from gateway.frames.upload_replication import stored_upload_response
from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.session import GatewaySession
from maskmesh import wire
from maskmesh.aio import to_its_end
from maskmesh.errors import Conflict, InvalidRequest, MaskmeshError, SessionNotFound
from maskmesh.media.pictures import PixelLimit
from maskmesh.v1 import segmentation_pb2

Requests = AsyncIterator[segmentation_pb2.AppendFramesRequest]

# How long a client whose upload is refused may continue to send, and how long it may pause meanwhile.
DRAIN_SECONDS = 10.0
PAUSE_SECONDS = 0.5


class Uploads:
    """AppendFrames.  ``check_bytes`` raises if the frames of a caller exceed its limit."""

    def __init__(
        self, lifecycle: Lifecycle, check_bytes: Callable[[Caller], None], *, limit: PixelLimit
    ) -> None:
        self._lifecycle = lifecycle
        self._check_bytes = check_bytes
        self._limit = limit

    async def append(
        self, requests: Requests, remaining: Callable[[], float | None] | None
    ) -> segmentation_pb2.AppendFramesResponse:
        """Carry out AppendFrames; ``remaining`` returns the seconds to the call's deadline.

        None says that no client sends the requests: those that are left are not read.
        """
        has_run = is_read = False

        async def rest() -> Requests:
            nonlocal is_read
            is_read = True
            async for request in requests:
                yield request

        async def append() -> segmentation_pb2.AppendFramesResponse:
            nonlocal has_run
            has_run = True
            async with self._lifecycle.keeping_alive(session):
                return await append_frames(
                    session,
                    config,
                    rest(),
                    limit=self._limit,
                    check_bytes=partial(self._check_bytes, session.caller),
                )

        try:
            first = await anext(aiter(requests), None)
            if first is None or first.WhichOneof("content") != "config":
                raise InvalidRequest("the first message must be the configuration", field="config")
            config = first.config
            session = await self._lifecycle.find(config.session_id)
            key = config.idempotency_key
            try:
                response = await session.answers.run(key, config, append, field="config.idempotency_key")
            except InvalidRequest:
                if has_run or not key:
                    raise
                # This call waited for an upload with the same key that failed; retry with this call's
                # frames.
                response = await session.answers.run(key, config, append, field="config.idempotency_key")
            if not is_read and remaining is not None:
                await drain_requests(requests, remaining())
            return response
        except MaskmeshError:
            if remaining is not None:
                await drain_requests(requests, remaining())
            raise


class ImageMessages:
    """AppendImages as the messages of AppendFrames; errors of an image get the path of its field."""

    def __init__(self, request: segmentation_pb2.AppendImagesRequest) -> None:
        self._request = request
        self._index = 0

    async def __aiter__(self) -> Requests:
        yield segmentation_pb2.AppendFramesRequest(config=self._request.config)
        for index, image in enumerate(self._request.images):
            self._index = index
            yield segmentation_pb2.AppendFramesRequest(frame=image)
        yield segmentation_pb2.AppendFramesRequest(finish=segmentation_pb2.AppendFramesFinish())

    @contextlib.contextmanager
    def naming_fields(self) -> Iterator[None]:
        """Change the field of errors in the body from its path in AppendFrames to that in AppendImages."""
        try:
            yield
        except MaskmeshError as error:
            field = error.metadata.get("field", "")
            if field.partition(".")[0] == "frame":
                error.metadata["field"] = f"images[{self._index}]{field.removeprefix('frame')}"
            raise


async def append_frames(
    session: GatewaySession,
    config: segmentation_pb2.AppendFramesConfig,
    requests: Requests,
    *,
    limit: PixelLimit,
    check_bytes: Callable[[], None],
) -> segmentation_pb2.AppendFramesResponse:
    """Add all frames of a call, also to the store; uploads to one session are serialised.

    ``check_bytes`` raises if the caller's frames exceed its limit.  Raises the errors of AppendFrames.
    """
    frames = session.frames
    if not isinstance(frames, FrameStore):
        raise InvalidRequest("a live session receives frames by SegmentStream", field="config.session_id")
    async with frames.adding, session.replicator.upload_lock() as record:
        if record is not None and (response := stored_upload_response(record, config)) is not None:
            return response  # another gateway has added the frames while this one waited for it
        if config.HasField("first_frame_index") and config.first_frame_index != frames.num_frames:
            raise Conflict(
                f"the session has {frames.num_frames} frames, not {config.first_frame_index}",
                field="config.first_frame_index",
                num_frames=frames.num_frames,
            )
        response = await _add_frames(session, frames, config, requests, limit, check_bytes)
    await session.prepare_reader()
    return response


async def _add_frames(
    session: GatewaySession,
    frames: FrameStore,
    config: segmentation_pb2.AppendFramesConfig,
    requests: Requests,
    limit: PixelLimit,
    check_bytes: Callable[[], None],
) -> segmentation_pb2.AppendFramesResponse:
    """Add all frames of a call or none.

    The steps run on one thread, so the cancellation of a call interrupts no step; its frames are dropped
    after the step, but once they are being added they are added in the store too.
    """
    try:
        addition = await frames.on_thread(Addition, frames)
    except FileNotFoundError as error:
        raise SessionNotFound("the session has ended", session_id=session.session_id) from error
    try:
        async for request in requests:
            match request.WhichOneof("content"):
                case "frame":
                    image = wire.image_from_proto(request.frame, field="frame", limit=limit)
                    await frames.on_thread(addition.add_frame, image)
                case "video_chunk":
                    await frames.on_thread(addition.add_video_chunk, request.video_chunk)
                case "finish":
                    return await to_its_end(_commit(session, frames, addition, config))
                case _:
                    raise InvalidRequest("only frames may follow the configuration", field="content")
            session.upload_bytes = addition.num_bytes
            check_bytes()
        raise InvalidRequest("the call ended without a finish message", field="content")
    finally:
        session.upload_bytes = 0
        await frames.on_thread(addition.close)


async def _commit(
    session: GatewaySession,
    frames: FrameStore,
    addition: Addition,
    config: segmentation_pb2.AppendFramesConfig,
) -> segmentation_pb2.AppendFramesResponse:
    """Add the received frames to the session, here and in the store."""
    first = await frames.on_thread(addition.commit)
    response = segmentation_pb2.AppendFramesResponse(
        first_frame_index=first,
        num_frames=frames.num_frames,
        width=frames.width,
        height=frames.height,
        frames_per_second=frames.frames_per_second,
    )
    await session.replicator.replicate_upload(first, config, response)
    return response


async def drain_requests(requests: Requests, remaining: float | None) -> None:
    """Read and drop the rest of an upload; ``remaining`` are the seconds to its deadline.

    gRPC's asyncio client loses a response that it receives while it is still sending messages: it reports
    the failure of the write instead of the error.
    """
    seconds = DRAIN_SECONDS if remaining is None else min(DRAIN_SECONDS, remaining / 2)
    messages = aiter(requests)
    # The client may send nothing more, or too much; the error may be lost then.
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(seconds):
            while True:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await anext(messages)
