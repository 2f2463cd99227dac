"""Invalid images, videos, prompts and options, each with a description."""

import io
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from PIL import Image

from maskmesh import (
    ImageTooLarge,
    InvalidImage,
    MaskmeshError,
)
from maskmesh.masks import RleMask
from maskmesh.v1 import types_pb2

WIDTH, HEIGHT = 64, 48


# Images and videos.


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def plain(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    return Image.new("RGB", (width, height), (90, 120, 30))


def noise() -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def animation(form: str) -> bytes:
    return encoded(plain(), form, save_all=True, append_images=[noise()])


def without_size() -> bytes:
    """A PNG whose header has the size 0 x 0."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def video(frames: int = 8, *, form: str = "mp4", codec: str = "libx264") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            pixels = np.full((HEIGHT, WIDTH, 3), 20 * index % 255, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def overwritten(whole: bytes) -> bytes:
    """A video with an intact index, and zeros in place of all packets after the first three."""
    with av.open(io.BytesIO(whole), "r") as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]
    spoilt = bytearray(whole)
    for start, size in places[3:]:
        spoilt[start : start + size] = bytes(size)
    return bytes(spoilt)


def sound() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


PLAYLIST = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"

BAD_IMAGES: Sequence[tuple[str, types_pb2.Image, type[MaskmeshError], str]] = (
    ("no image", types_pb2.Image(), InvalidImage, ""),
    ("an empty file", types_pb2.Image(encoded=b""), InvalidImage, ""),
    ("not an image", types_pb2.Image(encoded=b"nothing of that kind"), InvalidImage, ""),
    ("an image truncated in its header", types_pb2.Image(encoded=encoded(plain())[:20]), InvalidImage, ""),
    ("an image in another format", types_pb2.Image(encoded=encoded(plain(), "JPEG2000")), InvalidImage, ""),
    ("an animated GIF", types_pb2.Image(encoded=animation("GIF")), InvalidImage, ""),
    ("an animated PNG", types_pb2.Image(encoded=animation("PNG")), InvalidImage, ""),
    ("a PNG of 0 x 0", types_pb2.Image(encoded=without_size()), InvalidImage, ""),
    ("9000 x 9000 pixels", types_pb2.Image(encoded=encoded(Image.new("1", (9000, 9000)))), ImageTooLarge, ""),
    ("raw, of size zero", types_pb2.Image(raw=types_pb2.RawImage(rgb=b"xyz")), InvalidImage, ""),
    (
        "raw, bytes missing",
        types_pb2.Image(raw=types_pb2.RawImage(width=WIDTH, height=HEIGHT, rgb=bytes(100))),
        InvalidImage,
        ".raw.rgb",
    ),
    (
        "raw, 2147483648 x 2147483648 pixels",
        types_pb2.Image(raw=types_pb2.RawImage(width=2**31, height=2**31, rgb=b"xyz")),
        ImageTooLarge,
        "",
    ),
)

CUT_OFF = encoded(noise(), "JPEG")[:-300]


# Prompts.


def point(x: float, y: float, label: Any = "POINT_LABEL_POSITIVE") -> types_pb2.Point:
    return types_pb2.Point(x=x, y=y, label=label)


def points(*many: types_pb2.Point) -> types_pb2.Prompt:
    return types_pb2.Prompt(points=many)


def box(*corners: float) -> types_pb2.Prompt:
    return types_pb2.Prompt(box=types_pb2.Box(**dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True))))


def rle(height: int, width: int, counts: bytes | None = None) -> types_pb2.Prompt:
    made = RleMask.encode(np.ones((height, width), dtype=bool)).counts if counts is None else counts
    return types_pb2.Prompt(
        mask=types_pb2.Mask(rle=types_pb2.RleMask(height=height, width=width, counts=made))
    )


def logits(side: int, value: float = 1.0, size: int | None = None) -> types_pb2.Prompt:
    values = np.full((side, side), value, dtype="<f4").tobytes()[:size]
    return types_pb2.Prompt(
        mask=types_pb2.Mask(low_res_logits=types_pb2.LowResLogits(height=side, width=side, values=values))
    )


CLICK = points(point(5, 5))
NAN, INFINITY = float("nan"), float("inf")

BAD_PROMPTS: Sequence[tuple[str, types_pb2.Prompt, str]] = (
    ("no point, box or mask", types_pb2.Prompt(), ""),
    ("a point that is not a number", points(point(NAN, 2)), ".points[0].x"),
    ("an infinite point", points(point(1, INFINITY)), ".points[0].y"),
    ("a point outside", points(point(1, 1), point(WIDTH + 1.5, 2)), ".points[1].x"),
    ("a point above", points(point(1, -3)), ".points[0].y"),
    ("a point without a label", points(point(1, 1, "POINT_LABEL_UNSPECIFIED")), ".points[0].label"),
    ("contradicting points", points(point(7, 7), point(7, 7, "POINT_LABEL_NEGATIVE")), ".points[1]"),
    ("257 points", points(*[point(1, 1)] * 257), ".points"),
    ("a box outside", box(0, 0, WIDTH + 2, 20), ".box.x1"),
    ("a box that is not a number", box(0, NAN, 3, 20), ".box.y0"),
    ("corners of a box swapped", box(30, 30, 10, 40), ".box"),
    ("a box without area", box(10, 10, 10, 40), ".box"),
    ("an empty mask", types_pb2.Prompt(mask=types_pb2.Mask()), ".mask"),
)

BAD_SESSION_PROMPTS: Sequence[tuple[str, types_pb2.Prompt, str]] = (
    ("a box after points", box(10, 10, 20, 20), ".box"),
    ("a mask of another size", rle(10, 10), ".mask"),
    ("an RLE mask whose runs do not fill it", rle(HEIGHT, WIDTH, b"zz"), ".mask"),
    (
        "a PNG mask that is no PNG",
        types_pb2.Prompt(mask=types_pb2.Mask(png=types_pb2.PngMask(height=HEIGHT, width=WIDTH, data=b"x"))),
        ".mask",
    ),
    (
        "packed bits that are missing",
        types_pb2.Prompt(
            mask=types_pb2.Mask(packed_bits=types_pb2.PackedMask(height=HEIGHT, width=WIDTH, bits=b"x"))
        ),
        ".mask",
    ),
    ("logits as a mask", logits(64), ".mask"),
    (
        "a polygon with two points",
        types_pb2.Prompt(
            mask=types_pb2.Mask(
                polygons=types_pb2.PolygonMask(
                    height=HEIGHT,
                    width=WIDTH,
                    polygons=[types_pb2.Polygon(rings=[types_pb2.Ring(xy=[1, 1, 5, 5])])],
                )
            )
        ),
        ".mask.polygons.polygons[0].rings[0].xy",
    ),
    (
        "a polygon with too many points",
        types_pb2.Prompt(
            mask=types_pb2.Mask(
                polygons=types_pb2.PolygonMask(
                    height=HEIGHT,
                    width=WIDTH,
                    polygons=[types_pb2.Polygon(rings=[types_pb2.Ring(xy=[1, 2] * 20_001)])],
                )
            )
        ),
        ".mask.polygons.polygons",
    ),
    (
        "polygons of another size",
        types_pb2.Prompt(mask=types_pb2.Mask(polygons=types_pb2.PolygonMask(height=2**31, width=2**31))),
        ".mask",
    ),
    (
        "a mask and points",
        types_pb2.Prompt(points=[point(1, 1)], mask=rle(HEIGHT, WIDTH).mask),
        ".mask",
    ),
)

BAD_OPTIONS: Sequence[tuple[str, types_pb2.MaskOptions, str]] = (
    ("an unknown mask format", types_pb2.MaskOptions(format=99), ".format"),  # type: ignore[arg-type]
    ("an unknown mask space", types_pb2.MaskOptions(space=99), ".space"),  # type: ignore[arg-type]
    (
        "logits in the image's space",
        types_pb2.MaskOptions(format="MASK_FORMAT_LOW_RES_LOGITS", space="MASK_SPACE_IMAGE"),
        ".space",
    ),
    (
        "holes of logits to fill",
        types_pb2.MaskOptions(format="MASK_FORMAT_LOW_RES_LOGITS", fill_holes_area=9),
        ".fill_holes_area",
    ),
    (
        "specks of logits to remove",
        types_pb2.MaskOptions(format="MASK_FORMAT_LOW_RES_LOGITS", remove_specks_area=9),
        ".remove_specks_area",
    ),
    (
        "a negative tolerance of polygons",
        types_pb2.MaskOptions(format="MASK_FORMAT_POLYGONS", polygon_tolerance=-1),
        ".polygon_tolerance",
    ),
)
