"""The blocking client, and the example that uses it."""

import asyncio
import inspect
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from maskmesh import (
    AsyncClient,
    Client,
    InvalidPrompt,
    LiveStream,
    Prompt,
    SyncLiveStream,
    SyncVideoSession,
    VideoSession,
)
from maskmesh.media.video_reader import read_frames
from tests.mesh import Mesh

PROJECT = Path(__file__).parent.parent.parent
WHEEL = (110, 262)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Client, AsyncClient), (SyncVideoSession, VideoSession), (SyncLiveStream, LiveStream)],
)
def test_blocking_classes_mirror_the_async_ones(ours: type, theirs: type) -> None:
    def calls(kind: type) -> dict[str, inspect.Signature]:
        return {
            n: inspect.signature(f) for n, f in inspect.getmembers(kind, inspect.isfunction) if n[0] != "_"
        }

    known = calls(ours)
    for name, signature in calls(theirs).items():
        if (theirs, name) == (LiveStream, "open"):
            continue  # the blocking client opens the stream in its context manager
        assert list(known[name].parameters) == list(signature.parameters), name
        assert getattr(ours, name).__doc__ == getattr(theirs, name).__doc__, name


async def test_session_with_the_blocking_client(mesh: Mesh, clip: Path) -> None:
    def run() -> None:
        with Client(mesh.endpoint) as client:
            found = client.segment_image(next(read_frames(clip)), {1: Prompt.of(points=[WHEEL])})
            assert found.objects[1][0].mask.decode().any()  # type: ignore[union-attr]
            with client.session() as session:
                assert session.append_video(clip) == session.num_frames == 60
                assert (session.width, session.height) == (640, 360)
                session.add_prompt(0, 1, points=[WHEEL])
                with pytest.raises(InvalidPrompt):
                    session.add_prompt(0, 1, points=[(9999, 1)])
                frames = session.propagate(max_frames=10)
                assert next(frames).frame_index == 0
                frames.close()
                assert [f.frame_index for f in session.propagate(start_frame_index=3, max_frames=2)] == [3, 4]
                assert session.remove_object(1) == []
                session.reset()
                assert session.revision == 3

    await asyncio.to_thread(run)


async def test_live_stream_with_the_blocking_client(mesh: Mesh, clip: Path) -> None:
    pictures = list(read_frames(clip))[:6]

    def run() -> None:
        with Client(mesh.endpoint) as client, client.stream() as stream:
            assert stream.send(pictures[0]) == 0
            stream.add_prompt(1, points=[WHEEL])

            def send() -> None:
                for picture in pictures[1:]:
                    stream.send(picture)
                stream.finish()

            sender = threading.Thread(target=send)
            sender.start()
            results = list(stream)
            sender.join()
        assert [r.sequence for r in results] == list(range(6))
        assert all(list(r.frame.objects) == [1] for r in results[1:])

    await asyncio.to_thread(run)


async def test_interactive_correction_example_runs(mesh: Mesh, clip: Path) -> None:
    example = PROJECT / "examples" / "interactive_correction.py"
    process = await asyncio.create_subprocess_exec(
        sys.executable, example, clip, "110,262", "330,180", mesh.endpoint,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, output.decode()
    lines = output.decode().splitlines()
    assert lines[0].startswith("first click: predicted IoU ")
    assert "corrected" in lines[1]
    assert lines[2].startswith("60 frames, ")
    assert lines[3].startswith("replayed: [(0, ")
