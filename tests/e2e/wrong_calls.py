"""Builders of invalid calls from raw messages."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from maskmesh.rpc.status import from_reason
from maskmesh.v1 import segmentation_pb2, types_pb2
from tests.e2e.bad_inputs import CLICK, encoded, plain

V1 = segmentation_pb2


@dataclass(slots=True)
class Context:
    """The stub and the sessions that the cases use."""

    stub: Any
    session_id: str
    """A session with eight frames of 64 x 48 pixels; object 1 has a point prompt on frame 0."""
    other_id: str
    """Another session of the same kind."""
    live_id: str
    """A live session whose stream is open."""
    gone_id: str
    """A session that was deleted."""
    expired_id: str
    """A session whose lease has expired."""
    empty_id: str
    """A session without frames."""
    video_id: str
    """A session with a video of eight frames."""
    unknown_id: str
    """An id of no session."""
    broken_id: str
    """A session whose first frame is truncated."""
    broken_prompted_id: str
    """A session whose second frame is truncated; object 1 is prompted on the first."""
    """A session with a video whose last frame is overwritten."""
    spare_id: str
    """A session with 200 frames that may be changed."""


Call = Callable[[Context], Awaitable[Any]]


async def drain(call: Any) -> None:
    async for _ in call:
        pass


def segment_image(**given: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        request = {"image": types_pb2.Image(encoded=encoded(plain()))} | given
        answer: Awaitable[Any] = context.stub.SegmentImage(V1.SegmentImageRequest(**request))
        return answer

    return call


def segment_concepts(**given: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        request = {"image": types_pb2.Image(encoded=encoded(plain()))} | given
        answer: Awaitable[Any] = context.stub.SegmentConcepts(V1.SegmentConceptsRequest(**request))
        return answer

    return call


def segment_everything(**given: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        request = {"image": types_pb2.Image(encoded=encoded(plain()))} | given
        answer: Awaitable[Any] = context.stub.SegmentEverything(V1.SegmentEverythingRequest(**request))
        return answer

    return call


def on_image(*prompts: types_pb2.Prompt) -> list[V1.ObjectPrompt]:
    return [V1.ObjectPrompt(obj_id=i, prompt=p) for i, p in enumerate(prompts)]


def add_prompt(**given: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        request: dict[str, Any] = {"session_id": context.session_id, "obj_id": 1, "prompt": CLICK} | given
        answer: Awaitable[Any] = context.stub.AddPrompt(V1.AddPromptRequest(**request))
        return answer

    return call


def append(*messages: V1.AppendFramesRequest, to: str = "session_id", **config: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        async def stream() -> AsyncIterator[V1.AppendFramesRequest]:
            session = V1.AppendFramesConfig(session_id=getattr(context, to), **config)
            yield V1.AppendFramesRequest(config=session)
            for message in messages:
                yield message

        answer: Awaitable[Any] = context.stub.AppendFrames(stream())
        return answer

    return call


def appended_alone(*messages: V1.AppendFramesRequest) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        async def stream() -> AsyncIterator[V1.AppendFramesRequest]:
            for message in messages:
                yield message

        answer: Awaitable[Any] = context.stub.AppendFrames(stream())
        return answer

    return call


def received(**config: Any) -> Call:
    """ReceiveStream with a configuration; ``{context.…}`` in a text is replaced."""

    async def call(context: Context) -> None:
        filled: dict[str, Any] = {
            k: v.format(context=context) if isinstance(v, str) else v for k, v in config.items()
        }
        request = V1.ReceiveStreamRequest(config=V1.StreamConfig(**filled))
        async for _ in context.stub.ReceiveStream(request):
            pass

    return call


def image(data: types_pb2.Image | bytes) -> V1.AppendFramesRequest:
    return V1.AppendFramesRequest(frame=types_pb2.Image(encoded=data) if isinstance(data, bytes) else data)


def chunk(data: bytes) -> V1.AppendFramesRequest:
    return V1.AppendFramesRequest(video_chunk=data)


FINISH = V1.AppendFramesRequest(finish=V1.AppendFramesFinish())
GOOD = image(encoded(plain()))


def propagate(**given: Any) -> Call:
    return lambda context: drain(
        context.stub.PropagateVideo(V1.PropagateVideoRequest(**({"session_id": context.session_id} | given)))
    )


def resumed(token: str, **given: Any) -> Call:
    return lambda context: drain(
        context.stub.PropagateVideo(
            V1.PropagateVideoRequest(
                session_id=context.session_id, resume_token=token.format(context=context), **given
            )
        )
    )


def twice() -> Call:
    async def call(context: Context) -> None:
        # The session is long enough that the first propagation is in progress when the second is refused.
        await add_prompt(session_id=context.spare_id)(context)
        request = V1.PropagateVideoRequest(session_id=context.spare_id)
        first = context.stub.PropagateVideo(request)
        await first.read()
        try:
            await drain(context.stub.PropagateVideo(request))
        finally:
            first.cancel()

    return call


def live(*messages: V1.SegmentStreamRequest, **config: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        async def stream() -> AsyncIterator[V1.SegmentStreamRequest]:
            if config:
                token = config.get("resume_token", "").format(context=context)
                yield V1.SegmentStreamRequest(config=V1.StreamConfig(**(config | {"resume_token": token})))
            for message in messages:
                yield message

        return drain(context.stub.SegmentStream(stream()))

    return call


def rejected(message: V1.SegmentStreamRequest, *, next_sequence: int = 1) -> Call:
    """Send a message that the server rejects, in a stream with one frame and one object.

    The stream then continues with another frame.  Raises the error of the rejection.
    """

    async def call(context: Context) -> None:
        stream = context.stub.SegmentStream()
        opened = V1.SegmentStreamRequest(config=V1.StreamConfig())
        said = V1.StreamPrompt(request_id="first", obj_id=1, prompt=CLICK)
        for request in (opened, live_frame(0), V1.SegmentStreamRequest(prompt=said), message):
            await stream.write(request)
        rejection = (await _next(stream, "rejected")).rejected
        await stream.write(live_frame(next_sequence))
        while (await _next(stream, "result")).result.sequence != next_sequence:
            pass
        await stream.write(V1.SegmentStreamRequest(finish=V1.StreamFinish()))
        while await stream.read() is not grpc.aio.EOF:
            pass
        raise from_reason(rejection.reason, rejection.message, rejection.metadata)

    return call


async def _next(stream: Any, content: str) -> Any:
    while (response := await stream.read()).WhichOneof("content") != content:
        pass
    return response


def live_frame(sequence: int, data: types_pb2.Image | None = None) -> V1.SegmentStreamRequest:
    sent = GOOD.frame if data is None else data
    return V1.SegmentStreamRequest(frame=V1.StreamFrame(sequence=sequence, image=sent))


def live_prompt(prompt: types_pb2.Prompt, **given: Any) -> V1.SegmentStreamRequest:
    said: dict[str, Any] = {"request_id": "wrong", "obj_id": 1, "prompt": prompt} | given
    return V1.SegmentStreamRequest(prompt=V1.StreamPrompt(**said))


def unary(rpc: str, request: type[Any], **given: Any) -> Call:
    def call(context: Context) -> Awaitable[Any]:
        known = {"session_id": context.session_id} | given
        answer: Awaitable[Any] = getattr(context.stub, rpc)(request(**known))
        return answer

    return call


def keyed_twice(first: Call, second: Call) -> Call:
    async def call(context: Context) -> None:
        await first(context)
        await second(context)

    return call


LONG_KEY = "k" * 129
