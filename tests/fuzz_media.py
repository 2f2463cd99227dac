"""Mutations of real files: containers, pictures, EXIF, masks and trace lines.

    python -m tests.fuzz_media --inputs 100000

Each input is a file of the corpus with some bytes changed.  Reading it must succeed, or fail with the error
that is documented; workers report any other exception, a crash of a library, a hang, and growth of memory.
"""

import argparse
import faulthandler
import json
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import av
import numpy as np
from PIL import Image

from maskmesh import InvalidImage, InvalidVideo, PngMask, ResourceExhausted
from maskmesh.evaluation.truth import read_labels
from maskmesh.media.pictures import PixelLimit, decode_picture, is_picture, picture_size
from maskmesh.media.video_index import index_video
from maskmesh.media.video_reader import ReverseVideoReader, VideoReader
from maskmesh.trace_report.report import make_report
from maskmesh.trace_report.trace_files import group_traces, read_spans
from tests.corpus.pictures import HEIGHT, PICTURES, WIDTH, disc, picture, saved, turned
from tests.corpus.videos import VIDEOS
from tests.fuzzing import damage

MAX_INPUT_SECONDS = 20
MAX_MEMORY_BYTES = 2 * 2**30

_LIMIT = PixelLimit(2**20, "MASKMESH_GATEWAY_MAX_PIXELS")


@cache
def containers() -> Sequence[bytes]:
    """The videos of the corpus."""
    files = []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(VIDEOS):
            path = Path(folder) / str(number)
            path.mkdir()
            case.make(path / case.name)
            files.append((path / case.name).read_bytes())
    return files


@cache
def pictures() -> Sequence[bytes]:
    """The pictures of the corpus."""
    return [case.make() for case in PICTURES if "2 MiB" not in case.name]


@cache
def exif() -> Sequence[bytes]:
    """Pictures whose mutations hit their metadata, which precede the pixels."""
    return [turned(orientation, form) for form in ("JPEG", "PNG", "TIFF") for orientation in (1, 6)]


@cache
def masks() -> Sequence[bytes]:
    """Masks as files."""
    values = (disc()[..., 0] > 100).astype(np.uint8)
    palette = Image.fromarray(values, "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    images = (
        Image.fromarray(values * 255),
        Image.fromarray(values),
        palette,
        Image.fromarray(values.astype(np.uint16) * 26001),
        Image.fromarray(values * 255).convert("RGBA"),
        Image.fromarray(values * 255).convert("1"),
    )
    return [saved(image, "PNG") for image in images] + [picture("P"), picture("RGB")]


@cache
def trace_lines() -> Sequence[bytes]:
    """A file of trace lines: a call, and a frame with its stages."""

    def span(number: int, parent: int, name: str, start: int, end: int) -> dict[str, object]:
        return {
            "traceId": "ab" * 16,
            "spanId": f"{number:016x}",
            "parentSpanId": f"{parent:016x}" if parent else "",
            "name": name,
            "kind": 1 + number % 3,
            "startTimeUnixNano": str(10**18 + start),
            "endTimeUnixNano": str(10**18 + end),
            "attributes": [
                {"key": "maskmesh.frame_index", "value": {"intValue": "3"}},
                {"key": "maskmesh.frame_kind", "value": {"stringValue": "tracked"}},
            ],
            "links": [{"traceId": "cd" * 16, "spanId": "ef" * 8}],
        }

    names = (
        "frame",
        "decode_image",
        "queue device",
        "image_encoder",
        "track",
        "memory_attention",
        "transfer request",
    )
    spans = [span(i + 1, 1 if i else 0, name, 1000 * i, 9000) for i, name in enumerate(names)]
    resource_attributes = [
        {"key": "service.name", "value": {"stringValue": "maskmesh-gateway"}},
        {"key": "host.name", "value": {"stringValue": "host"}},
    ]
    lines = [
        json.dumps(
            {
                "resourceSpans": [
                    {"resource": {"attributes": resource_attributes}, "scopeSpans": [{"spans": part}]}
                ]
            }
        )
        for part in (spans[:3], spans[3:])
    ]
    return ["\n".join(lines).encode()]


def read_container(path: Path) -> None:
    """Index a video, and read frames forward, by a jump and in reverse."""
    try:
        index = index_video(path, max_frames=500, limit=_LIMIT)
        last = index.num_frames - 1
        for kind, wanted in ((VideoReader, (0, 1, last, last // 2)), (ReverseVideoReader, (last, last - 1))):
            reader = kind(path, index)
            for frame in wanted:
                if frame >= 0:
                    assert reader.read(frame).pixels.shape == (index.height, index.width, 3)
            reader.close()
        assert (np.diff(index.times) >= 0).all()
    except (InvalidVideo, InvalidImage, ResourceExhausted):
        pass


def read_picture(path: Path) -> None:
    """Read the size and the pixels of a picture, which agree."""
    data = path.read_bytes()
    is_picture(path)
    try:
        size = picture_size(data, _LIMIT, field="image")
        pixels = decode_picture(data, _LIMIT, field="image")
    except InvalidImage:
        return
    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8


def read_mask(path: Path) -> None:
    """Read a mask as a prompt, and as labels."""
    for read in (lambda: PngMask(HEIGHT, WIDTH, path.read_bytes()).decode(), lambda: read_labels(path)):
        try:
            read()
        except (ValueError, OSError):
            continue


def read_traces(path: Path) -> None:
    """Read spans and make a report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            group_traces(read_spans(path))
            make_report(path)
        except ValueError:
            pass


class Kind(NamedTuple):
    """One kind of input."""

    files: Callable[[], Sequence[bytes]]
    read: Callable[[Path], None]
    name: str
    head: int = 0
    """If set, only so many bytes at the start are changed."""


KINDS = {
    "containers": Kind(containers, read_container, "input"),
    "pictures": Kind(pictures, read_picture, "input"),
    "exif": Kind(exif, read_picture, "input", head=160),
    "masks": Kind(masks, read_mask, "input.png"),
    "traces": Kind(trace_lines, read_traces, "input.jsonl"),
}
# Shares of the inputs; a container takes ten times as long as a picture.
SHARES = {"containers": 20, "pictures": 35, "exif": 15, "masks": 15, "traces": 15}


def make_input(kind: Kind, number: int) -> bytes:
    """The input of a kind with a number."""
    chance = Random(number)
    whole = chance.choice(kind.files())
    if kind.head:
        return damage(whole[: kind.head], chance) + whole[kind.head :]
    return damage(whole, chance)


def _work(name: str, first: int, count: int, folder: str) -> None:
    """Read inputs; the file ``now`` has the number of the one that is read."""
    kind = KINDS[name]
    faulthandler.enable()
    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    path, now = Path(folder) / kind.name, Path(folder) / "now"
    for number in range(first, first + count):
        now.write_text(str(number))
        path.write_bytes(make_input(kind, number))
        signal.alarm(MAX_INPUT_SECONDS)
        try:
            kind.read(path)
        except Exception as error:
            print(f"FINDING {name} {number}: {type(error).__name__}: {error}", flush=True)
        signal.alarm(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak > MAX_MEMORY_BYTES:
        print(f"FINDING {name} {first} to {number}: {peak / 2**20:.0f} MiB of memory", flush=True)


def _run(name: str, count: int, first: int) -> int:
    """Read inputs of one kind in processes that may crash; returns the number of crashes and hangs."""
    crashes, number, end = 0, first, first + count
    start = time.monotonic()
    while number < end:
        with tempfile.TemporaryDirectory() as folder:
            batch = min(2000, end - number)
            worker = multiprocessing.get_context("spawn").Process(
                target=_work, args=(name, number, batch, folder)
            )
            worker.start()
            worker.join()
            if worker.exitcode == 0:
                number += batch
                continue
            crashes += 1
            failed = int((Path(folder) / "now").read_text())
            how = "hang" if worker.exitcode == -signal.SIGALRM else f"status {worker.exitcode}"
            print(f"FINDING {name} {failed}: {how}", flush=True)
            number = failed + 1
    seconds = time.monotonic() - start
    print(f"{name}: {count} inputs in {seconds:.0f} s ({count / seconds:.0f}/s)", flush=True)
    return crashes


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    options = parser.parse_args()
    total = sum(SHARES[name] for name in options.kinds)
    crashes = sum(_run(name, options.inputs * SHARES[name] // total, options.first) for name in options.kinds)
    sys.exit(bool(crashes))


if __name__ == "__main__":
    main()
