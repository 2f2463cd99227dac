"""Generators of random messages, bytes, images and videos, most of them invalid."""

import io
import math
from collections.abc import Sequence
from random import Random
from typing import Any

import av
import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from PIL import Image as PillowImage

MAX_DEPTH = 4
MAX_REPEATED = 5

_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, 3.4e38, math.inf, -math.inf, math.nan, 63.999, 64.0, 1e9)
_INTEGERS = (0, 1, 2, 3, 7, 8, 63, 64, 255, 256, 2**15, 2**16, 2**31 - 1, -1, -2, -(2**31))
_LARGE = (2**31, 2**32 - 1, 2**53, 2**63 - 1, -(2**63))
_TEXTS = (
    "",
    " ",
    "0",
    "a",
    "../../etc/passwd",
    "\x00",
    "é\u202e\U0001f9ff",
    "sha256:",
    "x" * 129,
    "y" * 70_000,
)

_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}


def noise(random: Random, most: int = 300) -> bytes:
    """Random bytes."""
    return random.randbytes(random.randrange(most))


def _scalar(field: Any, random: Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return random.choice(_FLOATS) if random.random() < 0.7 else random.uniform(-100, 100)
        case FieldDescriptor.TYPE_STRING:
            return random.choice(_TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return b"" if random.random() < 0.2 else noise(random)
        case FieldDescriptor.TYPE_ENUM:
            known = [value.number for value in field.enum_type.values]
            return random.choice(known) if random.random() < 0.7 else random.choice((99, -1, 2**31 - 1))
    low, high = _RANGES[field.type]
    value = random.choice(_INTEGERS + _LARGE)
    return min(max(value, low), high)


def _fill(message: Message, field: Any, random: Random, depth: int) -> None:
    """Give a field a random value."""
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        if value.type != FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name)[_scalar(key, random)] = _scalar(value, random)
    elif field.is_repeated:
        for _ in range(random.randrange(MAX_REPEATED)):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                getattr(message, field.name).add().CopyFrom(make(field.message_type, random, depth + 1))
            else:
                getattr(message, field.name).append(_scalar(field, random))
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, field.name).CopyFrom(make(field.message_type, random, depth + 1))
    else:
        setattr(message, field.name, _scalar(field, random))


def make(descriptor: Any, random: Random, depth: int = 0) -> Any:
    """A message with about half of its fields set."""
    message = GetMessageClass(descriptor)()
    if depth < MAX_DEPTH:
        for field in descriptor.fields:
            if random.random() < 0.5:
                _fill(message, field, random, depth)
    return message


def mutate(message: Any, random: Random, keep: Sequence[str] = ()) -> None:
    """Change one field of a message or of a nested message, except the fields named in ``keep``."""
    fields = [field for field in message.DESCRIPTOR.fields if field.name not in keep]
    inside = [
        value
        for field, value in message.ListFields()
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated
    ]
    inside += [
        value
        for field, values in message.ListFields()
        if field.type == FieldDescriptor.TYPE_MESSAGE
        and field.is_repeated
        and not field.message_type.GetOptions().map_entry
        for value in values
    ]
    if inside and random.random() < 0.7:
        mutate(random.choice(inside), random)
    elif fields:
        field = random.choice(fields)
        if random.random() < 0.3:
            message.ClearField(field.name)
        _fill(message, field, random, 0)


def damage(data: bytes, random: Random) -> bytes:
    """A copy of ``data`` with bytes changed, truncated, repeated or removed."""
    changed = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        if not changed:
            break
        place = random.randrange(len(changed))
        match random.randrange(5):
            case 0:
                changed[place] ^= 1 << random.randrange(8)
            case 1:
                changed[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[place:]
            case 3:
                del changed[place : place + random.randrange(1, 20)]
            case _:
                changed[place:place] = noise(random, 20)
    return bytes(changed)


def _encoded(form: str, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


PICTURES = (
    _encoded("JPEG"),
    _encoded("JPEG", progressive=True, quality=50),
    _encoded("JPEG", mode="CMYK"),
    _encoded("PNG"),
    _encoded("PNG", mode="P"),
    _encoded("PNG", mode="L"),
    _encoded("WEBP"),
    _encoded("GIF"),
    _encoded("BMP"),
    _encoded("TIFF"),
)


def _video(form: str, codec: str, **options: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for seed in range(6):
            pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


VIDEOS = (
    _video("mp4", "libx264"),
    _video("mp4", "libx264", bf="2", g="3"),
    _video("matroska", "libx264"),
    _video("avi", "mpeg4"),
    _video("webm", "libvpx"),
)


def video(random: Random) -> bytes:
    """A video file that may be damaged."""
    whole = random.choice(VIDEOS)
    return whole if random.random() < 0.05 else damage(whole, random)


def picture(random: Random) -> bytes:
    """An image file that may be damaged."""
    whole = random.choice(PICTURES)
    return whole if random.random() < 0.1 else damage(whole, random)
