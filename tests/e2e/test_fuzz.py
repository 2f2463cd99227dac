"""Randomly invalid requests: every call ends with an expected status, and no service or session is lost.

pytest tests/e2e/test_fuzz.py --cases 20000
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message

from maskmesh import AsyncClient, Point, Prompt, VideoSession, wire
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import encoder_pb2, tracker_pb2
from maskmesh.masks import ByteArray
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.v1 import segmentation_pb2, types_pb2
from tests import fuzzing
from tests.mesh import Mesh, running_mesh

AT_ONCE = 6
HANG_SECONDS = 60.0

_CODES = grpc.StatusCode
ANSWERS = {
    _CODES.OK,
    _CODES.INVALID_ARGUMENT,
    _CODES.NOT_FOUND,
    _CODES.FAILED_PRECONDITION,
    _CODES.ABORTED,
    _CODES.RESOURCE_EXHAUSTED,
    _CODES.DATA_LOSS,  # a request to the tracker deleted the session without the gateway
}
"""The expected status codes; any other code is a fault."""

# Frames of the session that requests may change, and of the bystander that they must not change.
SIZE = (48, 64)
FRAMES = 3

KINDS = {
    "SegmentationService": segmentation_pb2,
    "EncoderService": encoder_pb2,
    "TrackerService": tracker_pb2,
}


@pytest.fixture(scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    # The fuzzer does not delete the sessions that it creates.
    flags = {
        name: ["--max-sessions", "5000", "--session-ttl-seconds", "30"] for name in ("gateway", "tracker")
    }
    flags["tracker"] += ["--drain-seconds", "0"]  # those that are left are not handed over
    async with running_mesh(
        tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags), MASKMESH_TRACE_DIR=""
    ) as mesh:
        yield mesh


def methods(service: str) -> list[Any]:
    """The method descriptors of a service."""
    return list(KINDS[service].DESCRIPTOR.services_by_name[service].methods)


def frames(seed: int) -> list[ByteArray]:
    return list(np.random.default_rng(seed).integers(0, 255, (FRAMES, *SIZE, 3), np.uint8))


class Fuzzer:
    """Sends requests to a mesh and counts their status codes."""

    def __init__(self, mesh: Mesh, client: AsyncClient, channels: dict[str, grpc.aio.Channel]) -> None:
        self._mesh = mesh
        self._client = client
        self._channels = channels
        self._session: VideoSession | None = None
        self._lock = asyncio.Lock()
        self.codes: Counter[str] = Counter()
        self.faults: list[str] = []

    async def run(self, cases: Iterable[int]) -> None:
        """Run all cases, AT_ONCE of them concurrently; the number of a case determines its content."""
        numbers = iter(cases)

        async def worker() -> None:
            for number in numbers:
                await self.case(number)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    async def case(self, number: int) -> None:
        random = Random(f"case {number}")
        if random.random() < 0.1:
            code, details = await self._watch(fuzzing.video(random))
            self._count(number, "video", code, details)
            return
        service = random.choices(list(KINDS), (6, 1, 3))[0]
        method = random.choice(methods(service))
        session_id = await self._session_id()
        seeds = self._seeds(method.input_type, session_id, random)
        requests = [self._spoil(seed, random) for seed in seeds]
        path = f"/{method.containing_service.full_name}/{method.name}"
        code, details = await self._call(service, path, requests, method)
        self._count(number, method.name, code, details)

    def _count(self, number: int, what: str, code: grpc.StatusCode, details: str) -> None:
        self.codes[code.name] += 1
        if code not in ANSWERS:
            self.faults.append(f"case {number}: {what}: {code.name}: {details}")

    async def _watch(self, video: bytes) -> tuple[grpc.StatusCode, str]:
        """The status of a video in a new session; a prompt and a propagation decode its frames."""
        try:
            async with self._client.session() as session:
                await session.append_video(video)
                await session.add_prompt(0, 1, points=[(20, 20)])
                async for _ in session.propagate(max_frames=4):
                    pass
        except MaskmeshError as error:
            return error.code, error.message
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return _CODES.OK, ""

    def _spoil(self, seed: Message, random: Random) -> bytes:
        kind = random.random()
        if kind < 0.15:
            return bytes(fuzzing.make(seed.DESCRIPTOR, random).SerializeToString())
        for _ in range(random.randrange(4)):
            # Most requests keep a valid session id.
            fuzzing.mutate(seed, random, keep=("session_id",) if random.random() < 0.8 else ())
        data = seed.SerializeToString()
        return fuzzing.damage(data, random) if kind > 0.9 else data

    async def _session_id(self) -> str:
        """The id of a session with frames and an object; creates a new one if the last one was deleted."""
        async with self._lock:
            if self._session is not None:
                try:
                    state = await self._session.get_state()
                    if state.num_frames >= FRAMES:
                        return self._session.session_id
                except Exception:
                    pass
            self._session = await self._client.create_session()
            await self._session.append_frames(frames(1))
            await self._session.add_prompt(0, 1, points=[(20, 20)])
            return self._session.session_id

    def _seeds(self, kind: Any, session_id: str, random: Random) -> list[Message]:
        """Mostly valid requests, which are mutated later."""
        prompt = wire.prompt_to_proto(Prompt(points=(Point(random.uniform(0, 64), 20),)))
        if random.random() < 0.2:
            prompt.mask.rle.counts = fuzzing.noise(random, 60)
            prompt.mask.rle.height, prompt.mask.rle.width = SIZE
        if random.random() < 0.1:
            prompt.box.CopyFrom(types_pb2.Box(x0=1, y0=1, x1=random.uniform(-5, 70), y1=40))
        picture = types_pb2.Image(encoded=fuzzing.picture(random))
        message: Any
        match kind.full_name.removeprefix("maskmesh.v1."):
            case "SegmentImageRequest":
                message = segmentation_pb2.SegmentImageRequest(image=picture)
                message.prompts.add(obj_id=1, prompt=prompt)
                return [message]
            case "AppendFramesRequest":
                first = segmentation_pb2.AppendFramesRequest()
                first.config.session_id = session_id
                images = [
                    segmentation_pb2.AppendFramesRequest(frame=picture) for _ in range(random.randrange(3))
                ]
                last = segmentation_pb2.AppendFramesRequest()
                last.finish.SetInParent()
                return [first, *images, last]
            case "AddPromptRequest":
                return [
                    segmentation_pb2.AddPromptRequest(
                        session_id=session_id, frame_index=random.randrange(-1, 4), obj_id=2, prompt=prompt
                    )
                ]
            case "SegmentStreamRequest":
                return self._stream(prompt, picture, random)
        message = fuzzing.make(kind, random)
        if "session_id" in message.DESCRIPTOR.fields_by_name:
            message.session_id = session_id
        if "config" in message.DESCRIPTOR.fields_by_name:
            config = message.config
            if "session_id" in config.DESCRIPTOR.fields_by_name:
                config.session_id = session_id
        return [message, *(fuzzing.make(message.DESCRIPTOR, random) for _ in range(random.randrange(3)))]

    def _stream(self, prompt: types_pb2.Prompt, picture: types_pb2.Image, random: Random) -> list[Message]:
        """A live stream: a configuration, then random messages."""
        made: list[Message] = [segmentation_pb2.SegmentStreamRequest(config=segmentation_pb2.StreamConfig())]
        for number in range(random.randrange(6)):
            request = segmentation_pb2.SegmentStreamRequest()
            match random.randrange(4):
                case 0 | 1:
                    request.frame.image.CopyFrom(picture)
                case 2:
                    request.prompt.request_id = str(number)
                    request.prompt.obj_id = 1
                    request.prompt.prompt.CopyFrom(prompt)
                case _:
                    request.CopyFrom(fuzzing.make(request.DESCRIPTOR, random))
            made.append(request)
        return made

    async def _call(
        self, service: str, path: str, requests: list[bytes], method: Any
    ) -> tuple[grpc.StatusCode, str]:
        """Make a call; returns its status code and message."""
        channel = self._channels[service]
        kinds = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        stub: Any = kinds[method.client_streaming, method.server_streaming](path)
        try:
            if method.client_streaming:
                await self._talk(StreamCall(stub(timeout=HANG_SECONDS)), requests, method)
            elif method.server_streaming:
                call = stub(requests[0], timeout=HANG_SECONDS)
                async for _ in call:
                    if method.name == "ReceiveStream":  # it lasts until the client leaves
                        call.cancel()
                        break
            else:
                await stub(requests[0], timeout=HANG_SECONDS)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return _CODES.OK, ""

    async def _talk(self, call: StreamCall, requests: list[bytes], method: Any) -> None:
        """Write all requests and read all responses."""

        async def write() -> None:
            for request in requests:
                await call.write(request)
            await call.done_writing()

        writing = asyncio.ensure_future(write())
        try:
            if method.server_streaming:
                while await call.read() is not grpc.aio.EOF:
                    pass
            else:
                await call.answer()
        finally:
            await asyncio.gather(writing, return_exceptions=True)


async def masks_of(session: VideoSession) -> list[object]:
    return [frame.objects[1].mask async for frame in session.propagate()]


async def keep(session: VideoSession) -> None:
    """Renew the lease of a session by calls."""
    while True:
        await session.get_state()
        await asyncio.sleep(5)


async def test_random_requests_get_expected_codes(target: Mesh, request: pytest.FixtureRequest) -> None:
    count: int = request.config.getoption("cases")
    services = ("SegmentationService", "EncoderService", "TrackerService")
    pids = [target.local.pid(name) for name in ("gateway", "encoder", "tracker")]
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(target.endpoint, timeout=HANG_SECONDS))
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(target.address(kind)))
            for name, kind in zip(services, ("gateway", "encoder", "tracker"), strict=True)
        }
        bystander = await stack.enter_async_context(client.session())
        await bystander.append_frames(frames(7))
        await bystander.add_prompt(0, 1, points=[(30, 24)])
        before = await masks_of(bystander)
        fuzzer = Fuzzer(target, client, channels)
        renewing = asyncio.ensure_future(keep(bystander))
        await fuzzer.run(range(count))
        renewing.cancel()
        print(dict(fuzzer.codes))
        assert not fuzzer.faults, "\n".join(fuzzer.faults[:50])
        # Some requests succeed, and most are invalid.
        assert fuzzer.codes["OK"] > count / 50
        assert fuzzer.codes["INVALID_ARGUMENT"] > count / 5
        # The bystander's session has not changed.
        assert await masks_of(bystander) == before
    assert pids == [target.local.pid(name) for name in ("gateway", "encoder", "tracker")]
    for pid in pids:
        assert Path(f"/proc/{pid}").exists()
