"""Overlays: times and aspect of their source, whole on every way out."""

import asyncio
import contextlib
import gc
import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from maskmesh.cli.media.outputs import MasksFile
from maskmesh.cli.media.overlay import VIDEO_CODECS, OverlayThread, VideoWriter
from tests.corpus.video_files import WIDTH, column, disc, seen_column


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", VIDEO_CODECS)
def test_overlay_has_the_times_and_the_aspect_of_its_source(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"o{suffix.upper() if suffix == '.mp4' else suffix}"
    times = [0.0, 0.01, 0.4, 0.41, 0.42, 2.0]
    with VideoWriter(path, frames_per_second=3.0, pixel_aspect=Fraction(16, 11)) as writer:
        for number, time in enumerate(times):
            writer.write(disc(number), time)
    written = times_of(path)
    np.testing.assert_allclose(np.array(written) - written[0], times, atol=2e-3)
    if suffix != ".ts":
        assert written[0] == pytest.approx(0, abs=1e-3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shown_width = stream.width * float(stream.sample_aspect_ratio or 1)
    assert shown_width == pytest.approx(WIDTH * 16 / 11, abs=1)


def test_equal_and_missing_times_make_no_holes(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "o.mp4", frames_per_second=0.06) as writer:
        for number, time in enumerate((0.0, 0.0, 0.0, 5.0, 4.0)):
            writer.write(disc(number), time)
    assert len(times_of(tmp_path / "o.mp4")) == 5
    with VideoWriter(tmp_path / "p.mp4", frames_per_second=0.0) as writer:
        for number in range(5):
            writer.write(disc(number))
    np.testing.assert_allclose(times_of(tmp_path / "p.mp4"), [0, 0.04, 0.08, 0.12, 0.16], atol=1e-3)


async def test_overlay_is_whole_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    thread = OverlayThread(VideoWriter(path, frames_per_second=25.0))
    for number in range(30):
        await thread.submit(partial(disc, number), {}, number / 25)
    with pytest.raises(KeyError):
        async with thread:
            raise KeyError("the work failed")
    with av.open(str(path)) as container:
        shown = [seen_column(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    np.testing.assert_allclose(shown, [column(i) for i in range(30)], atol=1.5)


async def test_errors_of_the_overlay_are_raised_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> np.ndarray:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        async with OverlayThread(VideoWriter(tmp_path / "o.mp4", frames_per_second=25)) as thread:
            await thread.submit(fail, {}, None)
    whole = VideoWriter.close

    def close_and_fail(writer: VideoWriter) -> None:
        whole(writer)
        fail()

    monkeypatch.setattr(VideoWriter, "close", close_and_fail)
    with pytest.raises(OSError, match="disk is full"):
        async with OverlayThread(VideoWriter(tmp_path / "p.mp4", frames_per_second=25)) as thread:
            await thread.submit(partial(disc, 1), {}, None)


async def test_every_error_of_drawing_is_read(tmp_path: Path) -> None:
    """asyncio would print a traceback for each that nobody reads."""
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))

    def fail(*_: object) -> np.ndarray:
        raise OSError("the disk is full")

    thread = OverlayThread(VideoWriter(tmp_path / "o.mp4", frames_per_second=25))
    for _ in range(5):
        with contextlib.suppress(OSError):  # that of an earlier frame
            await thread.submit(fail, {}, None)
    with pytest.raises(OSError, match="disk is full"):
        async with thread:
            pass
    del thread
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (33, 21)])
def test_odd_sizes_are_written(tmp_path: Path, size: tuple[int, int]) -> None:
    with VideoWriter(tmp_path / "2024-05-01T12:30.mp4", frames_per_second=25) as writer:
        writer.write(np.zeros((*size, 3), np.uint8))
    assert len(times_of(tmp_path / "2024-05-01T12:30.mp4")) == 1


def test_times_that_begin_again_go_on(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "o.mp4", frames_per_second=25) as writer:
        for number, time in enumerate([0.0, 0.04, 0.08, 0.0, 0.04]):
            writer.write(disc(number), time)
    np.testing.assert_allclose(times_of(tmp_path / "o.mp4"), [0, 0.04, 0.08, 0.12, 0.16], atol=1e-3)


async def test_files_that_were_removed_are_an_error(tmp_path: Path) -> None:
    masks = MasksFile(tmp_path / "m.json", {})
    masks.write({"frame_index": 0})
    (tmp_path / "m.json").unlink()
    with pytest.raises(OSError, match="removed while it was written"), masks:
        pass
    drawing = OverlayThread(VideoWriter(tmp_path / "o.mp4", frames_per_second=25))
    await drawing.submit(partial(disc, 1), {}, None)
    while not (tmp_path / "o.mp4").exists():
        await asyncio.sleep(0.02)
    (tmp_path / "o.mp4").unlink()
    with pytest.raises(OSError, match="removed while it was written"):
        async with drawing:
            pass


async def test_a_disk_that_is_full_for_the_overlay_is_told(tmp_path: Path) -> None:
    """FFmpeg swallows the errors of its last writes."""
    script = """
import asyncio, resource, signal, sys
from pathlib import Path
import numpy as np
from maskmesh.cli.media.overlay import OverlayThread, VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
async def main():
    async with OverlayThread(VideoWriter(Path(sys.argv[1]), frames_per_second=25)) as thread:
        for seed in range(20):
            noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)
            await thread.submit(lambda: noise, {}, None)
try:
    asyncio.run(main())
except OSError as error:
    print(error.filename, error.strerror)
"""
    path = tmp_path / "o.mp4"
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert run.stdout == f"{path} File too large\n", run.stderr
