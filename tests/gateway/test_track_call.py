"""The stream to a tracker: gRPC allows one write at a time."""

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc

from gateway.streams.track_call import TrackCall
from maskmesh import MaskOptions
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.storage.session_record import Owner
from maskmesh.types import EmbeddingRef


class OneWriter:
    """A stream to a tracker whose writes take time, and that asks for every embedding."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._responses: asyncio.Queue[Any] = asyncio.Queue()

    async def write(self, request: tracker_pb2.TrackRequest) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.005)
        self.at_once -= 1
        kind = str(request.WhichOneof("content"))
        self.written.append(kind)
        if kind == "config":
            self._responses.put_nowait(tracker_pb2.TrackResponse(started=tracker_pb2.TrackStarted()))
        elif kind == "frame":
            needed = tracker_pb2.EmbeddingNeeded(frame_index=request.frame.frame_index)
            self._responses.put_nowait(tracker_pb2.TrackResponse(embedding_needed=needed))
        if self.written.count("embedding") == 8:
            self._responses.put_nowait(grpc.aio.EOF)

    async def read(self) -> Any:
        return await self._responses.get()

    def cancel(self) -> None:
        self._responses.put_nowait(grpc.aio.EOF)


async def test_embeddings_are_written_between_frames() -> None:
    stream = OneWriter()
    router: Any = SimpleNamespace(tracker=lambda owner: SimpleNamespace(track=lambda timeout: stream))
    session: Any = SimpleNamespace(session_id="s", owner=Owner("tracker:1", 1))
    ref = EmbeddingRef("key", "model", "encoder:1", 1, 8, 8)

    async def encode(frame_index: int, again: bool) -> EmbeddingRef:
        return ref

    call = TrackCall(router, session, timeout=None, encode=encode)
    await call.open(MaskOptions())

    async def read() -> None:
        async for _ in call.results():
            pass

    reading = asyncio.ensure_future(read())
    for index in range(8):
        await call.send(index, ref, "")
    await asyncio.wait_for(reading, 10)
    await call.close()
    assert stream.written.count("embedding") == 8
    assert stream.most_at_once == 1
