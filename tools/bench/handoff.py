"""The transfer of an embedding to the tracker, compared with a memory copy and a bare gRPC stream."""

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch

from encoder_svc.service import CHUNK_BYTES
from maskmesh import wire
from maskmesh.cli.bench.sessions import draw_frames
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from maskmesh.config import DEFAULT_SHARED_MEMORY_DIR
from maskmesh.embedding_key import image_digest
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.rpc.channel import message_size_options, open_channel
from maskmesh.types import EmbeddingRef, EncodedImage
from maskmesh.wire import image_to_proto
from tracker_svc.embeddings.fetcher import EmbeddingFetcher

MAX_MESSAGE_BYTES = 64 * 2**20
REPEATS = 40
HITS = 200


@dataclass(frozen=True, slots=True)
class HandOff:
    """Median times in seconds, and peaks of memory relative to the size of the embedding."""

    num_bytes: int
    copy: float
    """A memory copy of the same number of bytes."""
    shared: float
    bare_stream: float
    """The same number of bytes over gRPC, in chunks of equal size, from a server without other work."""
    stream: float
    encode_hit: float
    """An ``Encode`` call with a cache hit."""
    encoder_peak: float
    """The maximum growth of the encoder's memory during the stream."""
    tracker_peak: float
    """The maximum growth of the fetching process's memory during the stream."""

    def to_json(self) -> dict[str, Any]:
        """The results for ``bench.json``."""
        return asdict(self)

    @property
    def ratios(self) -> dict[str, float]:
        """The ratios of both transfers to their baselines."""
        return {
            "handoff_shared_memory_copy": self.shared / self.copy,
            "handoff_stream_bare_stream": self.stream / self.bare_stream,
        }


async def run_handoff(options: MeshOptions) -> HandOff:
    """Encode one image and fetch its embedding many times."""
    async with LocalMesh(options) as mesh:
        address = f"127.0.0.1:{mesh.ports['encoder']}"
        channel = open_channel(address, max_message_bytes=MAX_MESSAGE_BYTES)
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        image = EncodedImage(draw_frames(1, time.time_ns())[0])
        key = image_digest(image)
        made = await stub.Encode(encoder_pb2.EncodeRequest(key=key, image=image_to_proto(image)))
        ref = wire.embedding_ref_from_proto(made.ref)
        hit = encoder_pb2.EncodeRequest(key=key)
        (encode_hit,) = await _medians([lambda: stub.Encode(hit)], HITS)
        await channel.close()

        async with (
            _fetching(ref, DEFAULT_SHARED_MEMORY_DIR) as fetch_shared,
            _fetching(ref, None) as fetch_stream,
            _bare_stream(ref.num_bytes) as receive_bare,
        ):
            (shared,) = await _medians([fetch_shared], REPEATS)
            pids = (mesh.pid("encoder"), os.getpid())
            before = [_reset_peak(pid) for pid in pids]
            await _medians([fetch_stream], REPEATS)
            peaks = [(_peak(pid) - start) / ref.num_bytes for pid, start in zip(pids, before, strict=True)]
            stream, bare_stream = await _medians([fetch_stream, receive_bare], REPEATS)
    return HandOff(
        num_bytes=ref.num_bytes,
        copy=_copy(ref.num_bytes),
        shared=shared,
        bare_stream=bare_stream,
        stream=stream,
        encode_hit=encode_hit,
        encoder_peak=peaks[0],
        tracker_peak=peaks[1],
    )


Call = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def _fetching(ref: EmbeddingRef, shared_memory_dir: Path | None) -> AsyncIterator[Call]:
    fetcher = EmbeddingFetcher(
        device=torch.device("cpu"),
        max_message_bytes=MAX_MESSAGE_BYTES,
        shared_memory_dir=shared_memory_dir,
    )
    try:
        await fetcher.fetch(ref)
        if shared_memory_dir is not None and not fetcher.shares_memory(ref.address):
            raise OSError(f"no space for embeddings in {shared_memory_dir}")
        yield lambda: fetcher.fetch(ref)
    finally:
        await fetcher.close()


async def _medians(calls: Sequence[Call], repeats: int) -> list[float]:
    """Median seconds of each call; the calls alternate."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 3):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[3:]) for taken in seconds]


def _copy(num_bytes: int) -> float:
    source, target = np.ones(num_bytes, np.uint8), np.ones(num_bytes, np.uint8)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@asynccontextmanager
async def _bare_stream(num_bytes: int) -> AsyncIterator[Call]:
    """The lower bound of gRPC: prepared chunks, copied into preallocated memory."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_bytes, args=(theirs, num_bytes), daemon=True)
    process.start()
    port = await asyncio.to_thread(ours.recv)
    target = np.empty(num_bytes, np.uint8)

    async def receive() -> None:
        filled = 0
        async for chunk in call(b""):
            target[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
            filled += len(chunk)

    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=message_size_options(MAX_MESSAGE_BYTES)
    ) as channel:
        call: Any = channel.unary_stream("/bench/Bytes")
        yield receive
    process.terminate()
    process.join()


def _serve_bytes(connection: Connection, num_bytes: int) -> None:
    chunks = [bytes(min(CHUNK_BYTES, num_bytes - start)) for start in range(0, num_bytes, CHUNK_BYTES)]

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def serve() -> None:
        server = grpc.aio.server(options=message_size_options(MAX_MESSAGE_BYTES))
        handlers: dict[str, Any] = {"Bytes": grpc.unary_stream_rpc_method_handler(stream)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
        connection.send(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


def _reset_peak(pid: int) -> int:
    """Reset the peak of a process's memory; returns its current memory in bytes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _peak(pid)


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no VmHWM in /proc/{pid}/status")
