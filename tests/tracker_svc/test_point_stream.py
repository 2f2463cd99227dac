"""A stream of points that is cancelled while it waits for an embedding."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from maskmesh import wire
from maskmesh.internal.v1 import points_pb2
from tests.tracker_svc.in_process import ref
from tracker_svc.frame_trace import FrameTrace
from tracker_svc.points.point_stream import PointStream


class NoEmbeddings:
    """An encoder that never answers."""

    def __init__(self) -> None:
        self.waiting = 0

    def check(self, known: object) -> None:
        """Accepts every reference."""

    async def get(self, known: object, **_: object) -> None:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1


async def test_spans_and_fetches_end_with_a_cancelled_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[FrameTrace] = []
    monkeypatch.setattr(FrameTrace, "end", lambda trace: ended.append(trace))
    embeddings = NoEmbeddings()
    model = SimpleNamespace(new_set=lambda: None, frames_at_once=4)
    components: Any = SimpleNamespace(model=model, embeddings=embeddings)
    stream = PointStream(components, "a session", SimpleNamespace(size=1))  # type: ignore[arg-type]

    async def requests() -> AsyncIterator[points_pb2.TrackPointsRequest]:
        for index in range(3):
            frame = points_pb2.PointFrame(
                frame_index=index, embedding=wire.embedding_ref_to_proto(ref(index))
            )
            yield points_pb2.TrackPointsRequest(frame=frame)
        await asyncio.Event().wait()

    responses = stream.run(requests())
    reading = asyncio.ensure_future(anext(responses))
    await asyncio.sleep(0.05)
    assert embeddings.waiting == 3
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await responses.aclose()
    await asyncio.sleep(0.01)
    assert len(ended) == 3
    assert embeddings.waiting == 0
