"""The functions of the extension, with their arguments checked."""

import ctypes
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

# What the matrix units take: widths of keys and of values are multiples of these, up to the last.
KEY_UNIT = 32
VALUE_UNIT = 16
MAX_WIDTH = 256

# torch's own loop over its threads, so that there is one pool of them; in its stable interface since 2.10.
_PARALLEL_FOR = "torch_parallel_for"


class Strided(Protocol):
    """A tensor of bfloat16 in memory, as torch has them."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of the dimensions."""

    def data_ptr(self) -> int:
        """Address of the first number."""

    def stride(self) -> Sequence[int]:
        """How many numbers lie from one to the next in each dimension."""


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("head", ctypes.c_int64),
    )


class _Kernel:
    """The loaded extension, and the loop that it computes in."""

    def __init__(self, library: ctypes.CDLL, parallel_for: ctypes.c_void_p) -> None:
        self._library = library
        self._parallel_for = parallel_for

    def call(self, name: str, *arguments: Any, threads: int) -> None:
        function = getattr(self._library, f"maskmesh_amx_{name}")
        function.restype = None
        function(*arguments, ctypes.c_int64(threads), self._parallel_for)


_kernel: _Kernel | None = None


def enable(framework: Path) -> str:
    """Use the extension from now on, where that is possible; returns what was found, for a log.

    ``framework`` is the folder of torch's libraries.
    """
    global _kernel
    spec = find_spec("maskmesh.amx._attention")
    if spec is None or spec.origin is None:
        return "the framework's, because the extension was not built"
    library = ctypes.CDLL(spec.origin)
    if not library.maskmesh_amx_is_available():
        return "the framework's, because this processor has no matrix units"
    try:
        parallel_for = getattr(ctypes.CDLL(str(framework / "libtorch_cpu.so")), _PARALLEL_FOR)
    except (OSError, AttributeError):
        return f"the framework's, because it has no {_PARALLEL_FOR}"
    _kernel = _Kernel(library, ctypes.cast(parallel_for, ctypes.c_void_p))
    return "our own, on matrix units"


def can_attend(key_width: int, value_width: int) -> bool:
    """Whether the extension is in use and takes tensors of such widths."""
    fits = key_width % KEY_UNIT == 0 and value_width % VALUE_UNIT == 0
    return _kernel is not None and fits and 0 < key_width <= MAX_WIDTH and 0 < value_width <= MAX_WIDTH


def can_pack_memories(width: int, memory_width: int, places: int) -> bool:
    """Whether the extension takes memories of ``memory_width`` on grids of so many places."""
    return can_attend(width, memory_width) and memory_width % KEY_UNIT == 0 and places % VALUE_UNIT == 0


def attend(query: Strided, key: Strided, value: Strided, out: Strided, *, threads: int) -> None:
    """Scaled dot-product attention, written to ``out``.

    query: [B, N, heads, D]; key: [B, M, heads, D]; value: [B, M, heads, V]; out: [B, N, heads, V]; all of
    bfloat16, the numbers of a head side by side.  Weights are rounded to bfloat16, sums are of float32.
    Raises ValueError where shapes do not fit.
    """
    (batch, queries, heads, width), (_, keys, _, value_width) = query.shape, value.shape
    _check("key", key, (batch, keys, heads, width))
    _check("value", value, (batch, keys, heads, value_width))
    _check("out", out, (batch, queries, heads, value_width))
    tensors = [_tensor(tensor) for tensor in (query, key, value, out)]
    sizes = [ctypes.c_int64(n) for n in (batch, heads, queries, keys, width, value_width)]
    scale = ctypes.c_float(width**-0.5)
    _use(width, value_width).call("attend", *map(ctypes.byref, tensors), *sizes, scale, threads=threads)


def packed_size(keys: int, width: int, value_width: int) -> int:
    """How many numbers keys and values take when they are packed."""
    return -(-keys // KEY_UNIT) * KEY_UNIT * (width + value_width)


def pack_memories(
    with_positions: Strided,
    memories: Strided,
    *,
    weight: Strided,
    bias: Strided,
    cosines: Strided,
    sines: Strided,
    num_pointer_tokens: int,
    packed: Strided,
    threads: int,
) -> None:
    """Project keys out of memories, turn them by their places, and pack them with the memories as values.

    placed: [C, M], memories with their positions; memories: [C, M]; weight: [D, C]; bias: [D]; cosines,
    sines: [D, places], the sines of the first of a pair negative; the last ``num_pointer_tokens`` of the M have no
    place, the others are whole grids of places.  packed: [packed_size(M, D, C)].  All of bfloat16,
    contiguous.  Raises ValueError where shapes do not fit.
    """
    (width, memory_width), places = weight.shape, cosines.shape[1]
    count = with_positions.shape[1]
    _check("placed", with_positions, (memory_width, count))
    _check("memories", memories, (memory_width, count))
    _check("bias", bias, (width,))
    _check("cosines", cosines, (width, places))
    _check("sines", sines, (width, places))
    _check("packed", packed, (packed_size(count, width, memory_width),))
    if not can_pack_memories(width, memory_width, places) or (count - num_pointer_tokens) % places:
        raise ValueError(f"memories of width {memory_width} on {places} places cannot be packed")
    tensors = [_address(tensor) for tensor in (with_positions, memories, weight, bias, cosines, sines)]
    sizes = [ctypes.c_int64(n) for n in (count, count - num_pointer_tokens, places, memory_width, width)]
    kernel = _use(width, memory_width)
    kernel.call("pack_memories", *tensors, *sizes, _address(packed), threads=threads)


def attend_packed(query: Strided, packed: Strided, out: Strided, *, keys: int, threads: int) -> None:
    """Attention with one head to keys and values that are packed, written to ``out``.

    query: [N, D]; packed: of as many ``keys``; out: [N, V]; the numbers of a row side by side.
    Raises ValueError where shapes do not fit.
    """
    (queries, width), value_width = query.shape, out.shape[1]
    _check("out", out, (queries, value_width))
    _check("packed", packed, (packed_size(keys, width, value_width),))
    query_row, out_row = (_rows(tensor) for tensor in (query, out))
    kernel = _use(width, value_width)
    sizes = [ctypes.c_int64(n) for n in (keys, width, value_width)]
    start = (_address(query), query_row, ctypes.c_int64(queries), _address(packed))
    scale = ctypes.c_float(width**-0.5)
    kernel.call("attend_packed", *start, *sizes, scale, _address(out), out_row, threads=threads)


def _use(key_width: int, value_width: int) -> _Kernel:
    if _kernel is None or not can_attend(key_width, value_width):
        raise ValueError(f"there is no kernel for keys of width {key_width}, values of width {value_width}")
    return _kernel


def _check(name: str, tensor: Strided, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)} instead of {shape}")


def _address(tensor: Strided) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _rows(tensor: Strided) -> ctypes.c_int64:
    row, number = tensor.stride()
    if number != 1:
        raise ValueError("the numbers of a row are not side by side")
    return ctypes.c_int64(row)


def _tensor(tensor: Strided) -> _Tensor:
    batch, row, head, number = tensor.stride()
    if number != 1:
        raise ValueError("the numbers of a head are not side by side")
    return _Tensor(tensor.data_ptr(), batch, row, head)
