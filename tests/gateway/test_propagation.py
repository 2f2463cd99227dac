"""PropagateVideo at the gateway: read-ahead, order, backpressure, resumption."""

import asyncio

import pytest

from maskmesh import InvalidRequest, ResourceExhausted, SessionBusy, VideoSession
from tests.gateway.in_process import InProcess, image

FRAMES = 10


async def prompted(gateway: InProcess) -> VideoSession:
    """A session of ten frames with one object, prompted on frame 2."""
    session = await gateway.client.create_session()
    await session.append_frames([image(i) for i in range(FRAMES)])
    await session.add_prompt(2, 1, points=[(3, 3)])
    return session


async def indices(session: VideoSession, **selection: object) -> list[int]:
    return [frame.frame_index async for frame in session.propagate(**selection)]  # type: ignore[arg-type]


async def test_frames_are_delivered_in_order_from_the_first_prompt(gateway: InProcess) -> None:
    session = await prompted(gateway)
    assert await indices(session) == list(range(2, FRAMES))
    assert await indices(session, start_frame_index=4, max_frames=3) == [4, 5, 6]
    assert await indices(session, start_frame_index=4, reverse=True) == [4, 3, 2, 1, 0]


async def test_each_image_is_encoded_once(gateway: InProcess) -> None:
    session = await prompted(gateway)
    await indices(session)
    assert len(gateway.encoder.encoded) == len(set(gateway.encoder.encoded)) == FRAMES - 2
    await session.add_prompt(5, 2, points=[(1, 1)])
    await indices(session)
    assert len(gateway.encoder.encoded) == FRAMES - 2


async def test_read_ahead_stops_at_the_window(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.permits = asyncio.Semaphore(0)
    propagation = asyncio.ensure_future(indices(session))
    while len(gateway.encoder.encoded) < 4:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(gateway.encoder.encoded) == 4
    for _ in range(FRAMES):
        tracker.permits.release()
    assert await propagation == list(range(2, FRAMES))


async def test_an_evicted_embedding_is_encoded_again(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.lost_embeddings = {2, 5}
    gateway.encoder.cached.clear()
    assert await indices(session) == list(range(2, FRAMES))
    assert not tracker.lost_embeddings


async def test_a_click_on_an_evicted_embedding_encodes_the_frame_again(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.lost_embeddings = {2}
    gateway.encoder.cached.clear()
    encodes = len(gateway.encoder.encoded)
    await session.add_prompt(2, 2, points=[(1, 1)])
    assert len(gateway.encoder.encoded) == encodes + 1


async def test_a_full_encoder_delays_frames_and_refuses_clicks(gateway: InProcess) -> None:
    session = await prompted(gateway)
    full = ResourceExhausted("the queue is full", resource="queue", retry_seconds=0.01)
    gateway.encoder.errors = [full, full]
    assert await indices(session) == list(range(2, FRAMES))
    await session.append_frames([image(FRAMES)])
    gateway.encoder.errors = [full] * 10
    with pytest.raises(ResourceExhausted):
        await session.add_prompt(FRAMES, 2, points=[(1, 1)])
    gateway.encoder.errors = []
    await session.add_prompt(FRAMES, 2, points=[(1, 1)])


async def test_a_second_propagation_is_refused_while_one_runs(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.permits = asyncio.Semaphore(1)
    first = aiter(session.propagate())
    assert (await anext(first)).frame_index == 2
    with pytest.raises(SessionBusy):
        await indices(session)
    for _ in range(FRAMES):
        tracker.permits.release()
    assert [frame.frame_index async for frame in first] == list(range(3, FRAMES))


async def test_the_tracker_is_told_when_the_client_leaves(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.permits = asyncio.Semaphore(1)
    frames = session.propagate()
    await anext(frames)
    await frames.aclose()
    while tracker.open_streams:
        await asyncio.sleep(0.01)
    tracker.permits = None
    assert await indices(session, start_frame_index=3) == list(range(3, FRAMES))


async def test_an_error_of_a_frame_ends_the_stream_and_not_the_session(gateway: InProcess) -> None:
    session = await prompted(gateway)
    [tracker] = gateway.trackers
    tracker.permits = asyncio.Semaphore(1)
    frames = session.propagate()
    await anext(frames)
    tracker.errors["Track"] = [InvalidRequest("no such mask", field="mask_options")]
    tracker.permits.release()
    with pytest.raises(InvalidRequest) as raised:
        async for _ in frames:
            pass
    assert raised.value.field == "mask_options"
    tracker.permits = None
    assert (await indices(session, start_frame_index=5))[-1] == FRAMES - 1
