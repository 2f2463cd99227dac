"""Export to a real OTLP receiver in a separate process."""

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

from maskmesh import AsyncClient, telemetry
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.mesh import running_mesh

RECEIVER = Path(__file__).with_name("otlp_receiver.py")


async def test_spans_of_all_services_arrive_after_shutdown(clip: Path, tmp_path: Path) -> None:
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, str(RECEIVER), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert receiver.stdout is not None
    assert receiver.stdin is not None
    try:
        port = int(await receiver.stdout.readline())
        endpoint = f"http://127.0.0.1:{port}"
        async with (
            running_mesh(tmp_path, MeshOptions(), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as mesh,
            AsyncClient(mesh.endpoint) as client,
            client.session() as session,
        ):
            await session.append_video(clip)
            await session.add_prompt(0, 1, points=[(110, 262)])
            frames = [f async for f in session.propagate(max_frames=5)]
        # The mesh is stopped right after the last frame: services flush their spans on SIGTERM.
        receiver.stdin.close()
        received = defaultdict(set)
        async for line in receiver.stdout:
            service, trace_id, name = line.decode().split(maxsplit=2)
            received[trace_id].add((service.removeprefix("maskmesh-"), name.strip()))
    finally:
        if receiver.returncode is None:
            receiver.kill()
        await receiver.wait()
    assert not list(tmp_path.glob("*.jsonl"))  # with an OTLP endpoint no trace files are written
    for frame in frames:
        assert received[frame.trace_id] >= {
            ("gateway", telemetry.FRAME),
            ("encoder", telemetry.IMAGE_ENCODER) if frame.frame_index else ("tracker", "track"),
            ("tracker", telemetry.POSTPROCESS),
        }
