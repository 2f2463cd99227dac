"""AppendImages, ReceiveStream and SendStream: calls for clients that cannot stream requests."""

import asyncio
from typing import Any

import grpc
import pytest

from maskmesh import InvalidImage, InvalidRequest, SessionNotFound, Unavailable, wire
from maskmesh.media.pictures import as_image
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import segmentation_pb2 as v1
from maskmesh.v1 import segmentation_pb2_grpc, types_pb2
from tests.gateway.in_process import InProcess, image


class Browser:
    """A client with unary calls and server streams only."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)

    async def call(self, method: str, request: Any) -> Any:
        with translate_rpc_errors():
            return await getattr(self.stub, method)(request, timeout=20)

    async def send(self, session_id: str, *messages: v1.SegmentStreamRequest) -> None:
        await self.call("SendStream", v1.SendStreamRequest(session_id=session_id, messages=messages))


def picture(seed: int) -> types_pb2.Image:
    return wire.image_to_proto(as_image(image(seed)))


def frame(sequence: int) -> v1.SegmentStreamRequest:
    return v1.SegmentStreamRequest(frame=v1.StreamFrame(sequence=sequence, image=picture(sequence)))


CLICK = types_pb2.Prompt(points=[types_pb2.Point(x=1, y=1, label=types_pb2.POINT_LABEL_POSITIVE)])


async def test_a_live_stream_in_two_halves(gateway: InProcess) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        browser = Browser(channel)
        results = browser.stub.ReceiveStream(v1.ReceiveStreamRequest(), timeout=20)
        first = await results.read()
        session_id = first.response.started.session_id
        prompt = v1.StreamPrompt(request_id="p", sequence=0, obj_id=3, prompt=CLICK)
        await browser.send(session_id, frame(0), v1.SegmentStreamRequest(prompt=prompt))
        for sequence in range(1, 12):
            await browser.send(session_id, frame(sequence))
        await browser.send(session_id, v1.SegmentStreamRequest(finish=v1.StreamFinish()))
        kinds: list[str] = []
        sequences = []
        while (message := await results.read()) is not grpc.aio.EOF:
            kind = message.response.WhichOneof("content")
            kinds.append(kind)
            if kind == "result":
                sequences.append(message.response.result.sequence)
        assert sequences == list(range(12))
        assert kinds.count("prompted") == 1
        with pytest.raises(SessionNotFound):  # the finished stream has ended its session
            await browser.send(session_id, frame(12))


async def test_wrong_messages_are_refused_before_any_is_taken(gateway: InProcess) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel, gateway.client.session() as stored:
        browser = Browser(channel)
        results = browser.stub.ReceiveStream(v1.ReceiveStreamRequest(), timeout=20)
        session_id = (await results.read()).response.started.session_id
        config = v1.SegmentStreamRequest(config=v1.StreamConfig())
        for messages, field in (([], "messages"), ([frame(0), config], "messages[1].content")):
            with pytest.raises(InvalidRequest) as caught:
                await browser.send(session_id, *messages)
            assert caught.value.field == field
        with pytest.raises(InvalidRequest, match="not live"):
            await browser.send(stored.session_id, frame(0))
        await browser.send(session_id, frame(0))  # nothing of the refused calls was taken
        assert (await results.read()).response.result.sequence == 0
        results.cancel()
        await asyncio.sleep(0.2)
        with pytest.raises(Unavailable):
            await browser.send(session_id, frame(1))


async def test_images_are_appended_by_one_call(gateway: InProcess) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel, gateway.client.session() as session:
        browser = Browser(channel)
        config = v1.AppendFramesConfig(session_id=session.session_id, idempotency_key="once")
        request = v1.AppendImagesRequest(config=config, images=[picture(0), picture(1)])
        for _ in range(2):
            response = await browser.call("AppendImages", request)
            assert (response.frames.first_frame_index, response.frames.num_frames) == (0, 2)
        other = v1.AppendFramesConfig(session_id=session.session_id)
        broken = types_pb2.Image(encoded=b"no picture")
        for index in range(3):
            images = [picture(2), picture(3), picture(4)]
            images[index] = broken
            with pytest.raises(InvalidImage) as caught:
                await browser.call("AppendImages", v1.AppendImagesRequest(config=other, images=images))
            assert caught.value.metadata["field"].startswith(f"images[{index}]")
        with pytest.raises(InvalidRequest, match="at least one image"):
            await browser.call("AppendImages", v1.AppendImagesRequest(config=other))
        assert (await session.get_state()).num_frames == 2


async def test_nothing_may_follow_the_finish_message(gateway: InProcess) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        browser = Browser(channel)
        results = browser.stub.ReceiveStream(v1.ReceiveStreamRequest(), timeout=20)
        session_id = (await results.read()).response.started.session_id
        finish = v1.SegmentStreamRequest(finish=v1.StreamFinish())
        [tracker] = gateway.trackers
        tracker.permits = asyncio.Semaphore(0)
        await browser.send(session_id, frame(0), finish)
        await browser.send(session_id, finish)  # a retry
        with pytest.raises(InvalidRequest) as caught:
            await browser.send(session_id, finish, frame(1))
        assert caught.value.field == "messages[1].content"
        tracker.permits.release()
        assert (await results.read()).response.result.sequence == 0
