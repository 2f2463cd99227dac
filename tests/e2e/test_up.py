"""``maskmesh up``: services that end are started again, and a client notices nothing but a pause.

    pytest tests/e2e/test_up.py --moments 30 -s

kills a service at thirty moments and prints how long the client waited; the default is one moment.
"""

import asyncio
import os
import random
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from maskmesh import AsyncClient, FrameMasks, VideoSession
from tests import jaeger
from tests.fresh_clips import write_fresh_clip
from tests.redis_server import needs_redis, running_redis

FRAMES = 40


class Up:
    """A running ``maskmesh up``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""
        self.endpoint = ""
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.text += line.decode()

    async def says(self, pattern: str, count: int = 1) -> str:
        """Wait until a pattern occurs in the output; returns the last occurrence."""
        async with asyncio.timeout(60):
            while len(found := re.findall(pattern, self.text)) < count:
                assert not self._reading.done() or re.findall(pattern, self.text), self.text
                await asyncio.sleep(0.02)
        return str(found[-1])

    def services(self) -> dict[str, int]:
        """The process ids of the services by name; a service that is being started has none."""
        pids = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                arguments = (folder / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if int(status[1]) == self.process.pid and "--port-file" in arguments:
                pids[Path(arguments[arguments.index("--port-file") + 1]).stem] = int(folder.name)
        return pids


@asynccontextmanager
async def running_up(*arguments: str, **environment: str) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "maskmesh.cli", "up", "--port", "0", "--threads", "1", *arguments),
        env={**os.environ, "MASKMESH_TRACE_DIR": "", "COLUMNS": "200", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    up = Up(process)
    try:
        up.endpoint = await up.says(r"maskmesh is ready at (\S+)")
        yield up
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def prompt(session: VideoSession, clip: Path) -> None:
    await session.append_video(clip)
    await session.add_prompt(0, 1, points=[(110, 262)])
    await session.add_prompt(3, 7, points=[(530, 185)])


@pytest.fixture(scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    kinds = ("--encoders", "2", "--trackers", "2", "--gateways", "2")
    exact = ("--dtype", "float32", "--max-batch", "1")
    async with (
        running_redis(tmp_path_factory.mktemp("redis")) as store,
        running_up(*kinds, *exact, MASKMESH_SESSION_URL=store.url) as up,
    ):
        yield up


@needs_redis
async def test_any_of_six_processes_is_killed(replicas: Up, clip: Path, tmp_path: Path, moment: int) -> None:
    chance = random.Random(f"up {moment}")
    fresh_clip = tmp_path / "fresh.mp4"
    write_fresh_clip(fresh_clip, clip, FRAMES)
    async with AsyncClient(replicas.endpoint) as client, client.session() as session:
        await prompt(session, fresh_clip)
        expected = [frame async for frame in session.propagate()]
    pids = replicas.services()
    assert len(pids) == 6
    victim, after = sorted(pids)[moment % 6], chance.randrange(1, FRAMES // 2)
    num_ready = len(re.findall("is ready again", replicas.text))
    frames: list[FrameMasks] = []
    waits: list[float] = []
    killed = 0.0
    async with AsyncClient(replicas.endpoint) as client, client.session() as session:
        await prompt(session, fresh_clip)
        last = time.monotonic()
        async for frame in session.propagate():
            waits.append(time.monotonic() - last)
            frames.append(frame)
            if len(frames) == after:
                await asyncio.sleep(chance.uniform(0, 0.1))
                os.kill(pids[victim], signal.SIGKILL)
                killed = time.monotonic()
            last = time.monotonic()
    await replicas.says("is ready again", num_ready + 1)
    whole = time.monotonic() - killed
    print(f"\n{victim} after frame {after}: longest wait {max(waits):.2f} s, whole after {whole:.2f} s")
    assert [f.frame_index for f in frames] == list(range(FRAMES))
    assert [f.objects for f in frames] == [f.objects for f in expected]
    assert replicas.services().keys() == pids.keys()


@needs_redis
async def test_summary_and_exit_status_are_honest(tmp_path: Path) -> None:
    async with running_up() as up:
        os.kill(up.services()["tracker"], signal.SIGKILL)
        await up.says("the tracker ended with status -9")
        await up.says("the tracker is ready again")
        up.process.send_signal(signal.SIGINT)
        assert await up.process.wait() == 128 + signal.SIGINT
        await up.says("tracker was started again once")


async def test_restart_never_ends_the_mesh() -> None:
    async with running_up("--restart", "never") as up:
        os.kill(up.services()["encoder"], signal.SIGKILL)
        assert await up.process.wait() == 1
        assert "the encoder ended with status -9" in up.text
        assert "started again" not in up.text


async def test_reflection_and_a_jaeger_of_its_own(tmp_path: Path) -> None:
    if jaeger.missing:
        pytest.skip(jaeger.missing)
    executable = jaeger.unpack(tmp_path)
    async with running_up("--jaeger", str(executable)) as up:
        assert "traces: http://127.0.0.1:16686/search?service=maskmesh-gateway" in up.text

        def services() -> list[str]:
            channel = grpc.insecure_channel(up.endpoint)
            return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert "maskmesh.v1.SegmentationService" in await asyncio.to_thread(services)
        async with asyncio.timeout(30):
            while "maskmesh-tracker" not in jaeger.get(16686, "api/services"):
                await asyncio.sleep(0.1)
        pids = [up.process.pid, *up.services().values()]
        up.process.kill()
        await up.process.wait()
    # Nothing outlives the command, Jaeger included.
    async with asyncio.timeout(20):
        while any(Path(f"/proc/{pid}").exists() for pid in pids) or _is_open(16686):
            await asyncio.sleep(0.05)


def _is_open(port: int) -> bool:
    try:
        jaeger.get(port, "api/services")
    except OSError:
        return False
    return True
