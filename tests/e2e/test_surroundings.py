"""The command among other folders, variables, signals and lines."""

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import pytest

from maskmesh import AsyncClient, Prompt
from tests.corpus.pictures import saved
from tests.golden import DATA, needs_data
from tests.mesh import Mesh
from tests.proxy import running_proxy
from tools.ended_runs import FRAMES, end_run
from tools.make_sample import make_clip

PROJECT = Path(__file__).parents[2]

# Modules that a user's folder may have.
NAMES = (
    "gateway",
    "encoder_svc",
    "tracker_svc",
    "maskmesh",
    "random",
    "json",
    "types",
    "torch",
    "grpc",
    "av",
)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "clip.mp4"
    make_clip(path, FRAMES)
    return path


@pytest.mark.parametrize("way", ["SIGTERM", "kill command", "kill tracker"])
def test_ended_runs_lose_nothing_and_leave_nothing(long_clip: Path, tmp_path: Path, way: str) -> None:
    """``python -m tools.ended_runs`` does so at many moments."""
    assert end_run(long_clip, tmp_path, way, random.Random(way).randrange(5, 90)) == []


async def test_nothing_of_the_folder_and_the_environment_is_used(clip: Path, tmp_path: Path) -> None:
    """Modules of the working directory, proxies of the outside, and variables that are invalid."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text('raise SystemExit("code of the folder ran")')
    environment = {
        **os.environ,
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "MASKMESH_TRACE_DIR": "/proc/traces",
        "OTEL_PROPAGATORS": "tracecontext,b3",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many",
        "OTEL_BSP_MAX_QUEUE_SIZE": "long",
        "OTEL_TRACES_SAMPLER": "bogus",
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", str(PROJECT))])),
    }
    environment.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "maskmesh.cli", "segment", str(clip), "--point", "110,262"),
        *("--max-frames", "3", "--masks", "m.json"),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert len(json.loads((tmp_path / "m.json").read_text())["frames"]) == 3
    assert output.count("traces are not exported") == 1
    assert output.count("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: not a number: 'many'") == 1
    assert output.count("OTEL_EXPORTER_OTLP_PROTOCOL: Input should be") == 1


async def test_slow_uplink_carries_each_byte_once(mesh: Mesh) -> None:
    """A line of 4 Mbit/s with a queue: the pings of a connection wait behind its data."""
    noise = random.Random(0).randbytes(500 * 400 * 3)
    from PIL import Image

    photo = saved(Image.frombytes("RGB", (500, 400), noise), "PNG", compress_level=0)
    async with running_proxy(bytes_per_second=250_000) as proxy:
        proxy.target = mesh.local.ports["gateway"]
        async with AsyncClient(f"127.0.0.1:{proxy.port}") as client:
            result = await client.segment_image(photo, {1: Prompt.of(points=[(100, 100)])})
            assert (result.width, result.height) == (500, 400)
    assert len(photo) < proxy.passed < 1.2 * len(photo)


@needs_data
async def test_damaged_file_through_a_mesh(client: AsyncClient) -> None:
    """Frames of a damaged file are tracked to the end, and those that repeat a picture are told."""
    async with client.session() as session:
        assert await session.append_video(DATA / "faults" / "damaged.mp4") == 80
        await session.add_prompt(0, 1, points=[(40, 120)])
        frames = [frame async for frame in session.propagate()]
    assert [f.frame_index for f in frames] == list(range(80))
    assert [f.frame_index for f in frames if f.repeats_previous] == list(range(35, 54))
    assert all(f.time is not None for f in frames)
