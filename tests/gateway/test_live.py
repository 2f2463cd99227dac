"""Live streams at the gateway: order, the window, skipped frames, rejections."""

import asyncio

import pytest

from gateway.live.commands import LiveCommands
from gateway.live.inbox import MAX_QUEUED_COMMANDS, Command
from gateway.streams.track_call import TrackCall
from maskmesh import InvalidRequest, LiveResult, LiveStream, ObjectNotFound
from maskmesh.errors import MaskmeshError
from maskmesh.types import EmbeddingRef
from maskmesh.v1 import segmentation_pb2
from tests.gateway.in_process import InProcess, image


async def send(stream: LiveStream, count: int, first: int = 0) -> None:
    for index in range(first, first + count):
        await stream.send(image(index))


async def collect(stream: LiveStream) -> list[LiveResult]:
    return [result async for result in stream]


async def test_results_come_in_order_with_their_sequence(gateway: InProcess) -> None:
    async with gateway.client.stream() as stream:
        collecting = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        await stream.add_prompt(3, points=[(1, 1)])
        await send(stream, 8, 1)
        await stream.finish()
        results = await collecting
    assert [result.sequence for result in results] == list(range(9))
    assert [result.frame.frame_index for result in results] == list(range(9))
    assert all(set(result.frame.objects) == {3} for result in results[1:])


async def test_results_may_come_before_sending_has_ended(
    gateway: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrackCall.send

    async def slow(call: TrackCall, frame_index: int, ref: EmbeddingRef, traceparent: str) -> None:
        await original(call, frame_index, ref, traceparent)
        await asyncio.sleep(0.05)

    monkeypatch.setattr(TrackCall, "send", slow)
    async with gateway.client.stream() as stream:
        collecting = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        await stream.add_prompt(1, points=[(1, 1)])
        await send(stream, 3, 1)
        await stream.finish()
        results = await collecting
    assert [result.sequence for result in results] == [0, 1, 2, 3]


async def test_a_slow_tracker_skips_frames_and_reports_them(gateway: InProcess) -> None:
    [tracker] = gateway.trackers
    async with gateway.client.stream(overload="skip") as stream:
        results = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        await stream.add_prompt(1, points=[(1, 1)])
        tracker.permits = asyncio.Semaphore(0)
        await send(stream, 20, 1)
        await asyncio.sleep(0.2)
        for _ in range(30):
            tracker.permits.release()
        await stream.finish()
        delivered = await results
    tracked = [result.sequence for result in delivered]
    skipped = [number for result in delivered for number in result.skipped]
    assert skipped
    assert sorted(tracked + skipped) == list(range(21))
    # The newest frame is never skipped.
    assert tracked[-1] == 20
    # Skipped frames have no index: memory is made of the frames just before.
    assert [result.frame.frame_index for result in delivered] == list(range(len(delivered)))


async def test_a_wrong_message_is_rejected_and_the_stream_goes_on(gateway: InProcess) -> None:
    rejected: list[MaskmeshError] = []
    async with gateway.client.stream(on_rejected=lambda _, error: rejected.append(error)) as stream:
        results = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        await stream.add_prompt(1, points=[(1, 1)])
        [tracker] = gateway.trackers
        tracker.errors["RemoveObject"] = [ObjectNotFound("there is no such object")]
        with pytest.raises(ObjectNotFound):
            await stream.remove_object(7)
        await stream.send(b"no image")
        await stream.send(image(2))
        await stream.finish()
        assert [result.sequence for result in await results] == [0, 2]
    assert len(rejected) == 1


async def test_a_finished_stream_ends_its_session(gateway: InProcess) -> None:
    async with gateway.client.stream() as stream:
        await stream.send(image(0))
        await stream.finish()
        async for _ in stream:
            pass
    [tracker] = gateway.trackers
    assert not tracker.sessions


async def test_a_burst_of_commands_before_a_frame(
    gateway: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More commands than the gateway queues make the client wait; nothing fails."""
    original = LiveCommands.carry_out

    async def slow(commands: LiveCommands, command: Command) -> None:
        await asyncio.sleep(0.002)
        await original(commands, command)

    monkeypatch.setattr(LiveCommands, "carry_out", slow)
    async with gateway.client.stream() as stream:
        collecting = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        prompts = [
            asyncio.ensure_future(stream.add_prompt(1, points=[(1, 1)]))
            for _ in range(MAX_QUEUED_COMMANDS + 20)
        ]
        await asyncio.sleep(0)
        await stream.send(image(1))
        await asyncio.gather(*prompts)
        await stream.finish()
        assert [result.sequence for result in await collecting] == [0, 1]


async def test_a_stream_that_does_not_start_leaves_no_session(gateway: InProcess) -> None:
    [tracker] = gateway.trackers
    tracker.errors["Track"] = [InvalidRequest("no such mask", field="config.mask_options")]
    with pytest.raises(InvalidRequest):
        async with gateway.client.stream():
            pass
    assert not tracker.sessions


async def test_a_prompt_refers_to_the_last_frame_that_was_sent(
    gateway: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that frame is still being sent when the prompt is made."""
    original = LiveStream._write

    async def slow(stream: LiveStream, request: segmentation_pb2.SegmentStreamRequest) -> None:
        if request.HasField("frame"):
            await asyncio.sleep(0.05)
        await original(stream, request)

    async with gateway.client.stream(overload="skip") as stream:
        collecting = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        monkeypatch.setattr(LiveStream, "_write", slow)
        sending = asyncio.ensure_future(stream.send(image(1)))
        await asyncio.sleep(0.01)
        found = await stream.add_prompt(1, points=[(1, 1)])
        assert await sending == 1
        assert found.frame_index == 1
        await stream.finish()
        await collecting
