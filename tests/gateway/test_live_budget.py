"""Live streams under a budget: windows, policies for lag, the motion gate."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from maskmesh import Budget, InvalidRequest, LiveResult, LiveStream, wire
from maskmesh.types import RawImage
from maskmesh.v1 import budget_pb2, segmentation_pb2, segmentation_pb2_grpc
from tests.gateway.in_process import InProcess, image


async def collect(stream: LiveStream) -> list[LiveResult]:
    return [result async for result in stream]


async def prompted(stream: LiveStream) -> "asyncio.Task[list[LiveResult]]":
    """Send a frame with a prompt, and collect the results."""
    results = asyncio.ensure_future(collect(stream))
    await stream.send(image(0))
    await stream.add_prompt(1, points=[(1, 1)])
    return results


async def test_results_tell_whether_their_windows_kept_the_budget(gateway: InProcess) -> None:
    budget = Budget(per_window=60.0, window_length=3, window_stride=2)
    async with gateway.client.stream(budget=budget) as stream:
        collecting = await prompted(stream)
        for index in range(1, 8):
            await stream.send(image(index))
        await stream.finish()
        results = await collecting
    last_frames = [r.window.last_sequence if r.window else None for r in results]
    assert last_frames == [None, None, 2, 2, 4, 4, 6, 6]
    window = results[-1].window
    assert window is not None
    assert (window.window, window.first_sequence, window.new_frames) == (2, 4, 2)
    assert (window.status, window.budget) == ("OK", 60.0)
    assert 0 < window.total < 60
    assert window.latency > 0
    summary = stream.summary
    assert summary is not None
    assert (summary.received_frames, summary.run.frames, summary.run.windows) == (8, 8, 3)
    assert summary.run.ok_ratio == 1
    assert summary.run.times.keys() >= {"total", "latency", "slack", "model"}


async def test_every_window_lags_behind_an_impossible_budget(gateway: InProcess) -> None:
    async with gateway.client.stream(budget=Budget(per_window=1e-6)) as stream:
        collecting = await prompted(stream)
        for index in range(1, 5):
            await stream.send(image(index))
        await stream.finish()
        results = await collecting
    assert [r.window.status for r in results if r.window] == ["LAG"] * 5
    assert stream.summary is not None
    assert stream.summary.run.ok_ratio == 0


async def test_skipping_keeps_the_newest_frame_and_two_in_progress(gateway: InProcess) -> None:
    [tracker] = gateway.trackers
    async with gateway.client.stream(overload="skip") as stream:
        collecting = await prompted(stream)
        tracker.permits = asyncio.Semaphore(0)
        for index in range(1, 30):
            await stream.send(image(index))
            await asyncio.sleep(0.005)
        for _ in range(30):
            tracker.permits.release()
        await stream.finish()
        results = await collecting
    assert stream.window == 2
    # Two were in progress while the tracker stood still, and then the newest one.
    assert [r.sequence for r in results][-1] == 29
    assert len(results) <= 5
    assert results[-1].newer_frames == 0
    assert stream.summary is not None
    assert stream.summary.skipped_frames == 30 - len(results)


async def test_dropping_the_oldest_keeps_a_burst(gateway: InProcess) -> None:
    [tracker] = gateway.trackers
    async with gateway.client.stream(overload="drop_oldest") as stream:
        collecting = await prompted(stream)
        tracker.permits = asyncio.Semaphore(0)
        for index in range(1, 30):
            await stream.send(image(index))
        await asyncio.sleep(0.2)
        for _ in range(30):
            tracker.permits.release()
        await stream.finish()
        results = await collecting
    # The last eight were queued.
    assert [r.sequence for r in results][-8:] == list(range(22, 30))
    skipped = [number for r in results for number in r.skipped]
    assert sorted([r.sequence for r in results] + skipped) == list(range(30))


async def test_still_frames_are_answered_without_encoding(gateway: InProcess) -> None:
    async with gateway.client.stream(motion_gate=0) as stream:
        collecting = await prompted(stream)
        for _ in range(10):
            await stream.send(image(0))
        await stream.send(image(100))
        await stream.send(image(100))
        await stream.finish()
        results = await collecting
    assert [r.sequence for r in results] == list(range(13))
    # The frame after the prompt is encoded, because the objects have changed.
    assert [r.gated for r in results] == [False, False, *[True] * 9, False, True]
    assert [r.frame.frame_index for r in results] == [0, *[1] * 10, 2, 2]
    assert all(set(r.frame.objects) == {1} for r in results[1:])
    assert not any(r.skipped for r in results)
    assert len(gateway.encoder.encoded) == 2  # frame 1 equals frame 0, which is cached
    assert stream.summary is not None
    assert (stream.summary.run.gated_frames, stream.summary.gate_threshold) == (10, 4.0)


async def test_a_prompt_on_a_gated_frame_applies_to_the_frame_that_it_equals(gateway: InProcess) -> None:
    async with gateway.client.stream(motion_gate=4) as stream:
        answers = aiter(stream)
        await stream.send(image(0))
        await anext(answers)
        for _ in range(3):
            await stream.send(image(0))
            assert (await anext(answers)).gated
        masks = await stream.add_prompt(5, points=[(1, 1)], sequence=2)
        assert masks.frame_index == 0
        await stream.send(image(0))
        found = await anext(answers)
        assert (found.gated, set(found.frame.objects)) == (False, {5})


async def test_changes_by_other_calls_open_the_gate(gateway: InProcess) -> None:
    async with gateway.client.stream(motion_gate=4) as stream:
        answers = aiter(stream)
        await stream.send(image(0))
        await anext(answers)
        session = await gateway.client.attach(stream.session_id)
        await session.add_prompt(0, 3, points=[(1, 1)])
        await stream.send(image(0))
        assert set((await anext(answers)).frame.objects) == {3}


async def test_gated_frames_wait_for_the_frame_that_they_equal(gateway: InProcess) -> None:
    [tracker] = gateway.trackers
    async with gateway.client.stream(motion_gate=4) as stream:
        collecting = await prompted(stream)
        tracker.permits = asyncio.Semaphore(0)
        for _ in range(5):
            await stream.send(image(0))
        await asyncio.sleep(0.1)
        tracker.permits.release()
        await stream.finish()
        results = await collecting
    assert [r.sequence for r in results] == list(range(6))
    assert [r.gated for r in results] == [False, False, True, True, True, True]


async def test_a_resumed_stream_reports_gated_frames_whose_results_were_lost(gateway: InProcess) -> None:
    config = segmentation_pb2.StreamConfig(motion_gate=budget_pb2.MotionGate())
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        results = await results_of(stub, config, range(5), finishes=False)
        assert [(r.sequence, r.gated) for r in results] == [(0, False), *((n, True) for n in range(1, 5))]
        # The client has received the results of frames 0 to 2.
        config.resume_token = results[2].resume_token
        config.next_sequence = 5
        [resumed] = await results_of(stub, config, [5], finishes=True)
    assert (resumed.sequence, list(resumed.skipped)) == (5, [3, 4])


async def results_of(
    stub: Any,
    config: segmentation_pb2.StreamConfig,
    sequences: Sequence[int],
    *,
    finishes: bool,
) -> list[segmentation_pb2.StreamResult]:
    """The results of equal pictures; the call breaks off after them, or the client finishes the stream."""
    request = segmentation_pb2.SegmentStreamRequest
    call = stub.SegmentStream()
    await call.write(request(config=config))
    for sequence in sequences:
        frame = segmentation_pb2.StreamFrame(sequence=sequence, image=wire.image_to_proto(RawImage(image(0))))
        await call.write(request(frame=frame))
    if finishes:
        await call.write(request(finish=segmentation_pb2.StreamFinish()))
    results: list[segmentation_pb2.StreamResult] = []
    while len(results) < len(sequences):
        response = await call.read()
        assert response is not grpc.aio.EOF
        if response.WhichOneof("content") == "result":
            results.append(response.result)
    call.cancel()
    return results


async def test_rejected_frames_count_as_received(gateway: InProcess) -> None:
    async with gateway.client.stream() as stream:
        results = asyncio.ensure_future(collect(stream))
        await stream.send(image(0))
        await stream.send(b"no image")
        await stream.finish()
        await results
    assert stream.summary is not None
    counts = stream.summary.received_frames, stream.summary.rejected_frames, stream.summary.run.frames
    assert counts == (2, 1, 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"motion_gate": -1.0}, "config.motion_gate.threshold"),
        ({"motion_gate": float("nan")}, "config.motion_gate.threshold"),
    ],
)
async def test_bad_options(gateway: InProcess, options: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        async with gateway.client.stream(**options):  # type: ignore[arg-type]
            pass
    assert error.value.field == field
