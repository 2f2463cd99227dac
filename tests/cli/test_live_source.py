"""Live sources: the shape of their pixels, and their own times."""

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from maskmesh.cli.media.live_source import LiveFrame, LiveSource
from maskmesh.cli.stream.stream import gap_between
from tests.corpus.video_files import disc


@pytest.mark.parametrize("aspect", [Fraction(16, 11), Fraction(1)])
async def test_pixels_of_a_source_keep_their_aspect(tmp_path: Path, aspect: Fraction) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.height, stream.width = disc(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(disc(number))))
        container.mux(stream.encode())
    source = LiveSource(str(path), max_silence=10.0, on_silence=lambda _: None)
    await source.open()
    times = []
    while (frame := await source.read()) is not None:
        times.append(frame.time)
    source.close()
    assert source.pixel_aspect == aspect
    assert times == pytest.approx([0.0, 0.04, 0.08], abs=2e-3)


def test_frames_are_as_far_apart_as_their_own_times() -> None:
    frames = [LiveFrame(disc(0), time) for time in (1.0, 1.5, 0.0, None)]
    gaps = [gap_between(*pair, otherwise=0.04) for pair in itertools.pairwise(frames)]
    assert gaps == [0.5, 0.0, 0.04]
