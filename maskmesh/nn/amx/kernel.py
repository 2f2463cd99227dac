"""The functions of the compiled kernel, with their arguments checked."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from maskmesh.nn.amx.build import BuildError, find_or_build

# Widths of keys are multiples of KEY_UNIT, those of values multiples of VALUE_UNIT, both at most MAX_WIDTH.
KEY_UNIT = 32
VALUE_UNIT = 16
MAX_WIDTH = 256

# torch's parallel loop, so that there is one thread pool; it is in torch's stable C interface since 2.10.
_PARALLEL_FOR = "torch_parallel_for"


class Strided(Protocol):
    """A bfloat16 tensor in memory, with the methods of torch's tensors."""

    @property
    def shape(self) -> Sequence[int]:
        """Sizes of the dimensions."""

    def data_ptr(self) -> int:
        """Address of the first element."""

    def stride(self) -> Sequence[int]:
        """Stride of each dimension, in elements."""


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("head", ctypes.c_int64),
    )


class _Kernel:
    """The loaded library, and the parallel loop of torch that it computes in."""

    def __init__(self, library: ctypes.CDLL, parallel_for: ctypes.c_void_p) -> None:
        self._library = library
        self._parallel_for = parallel_for

    def call(self, name: str, *arguments: Any, threads: int) -> None:
        function = getattr(self._library, f"maskmesh_amx_{name}")
        function.restype = None
        function(*arguments, ctypes.c_int64(threads), self._parallel_for)


_kernel: _Kernel | None = None


def enable(framework: Path) -> str:
    """Use the kernel from now on if this machine can; returns the decision and its reason, for a log.

    ``framework`` is the folder of torch's libraries.  Compiles the kernel if that was not done before.
    """
    global _kernel
    if not _has_matrix_units():
        return "the framework's, because this processor has no matrix units"
    try:
        library = ctypes.CDLL(str(find_or_build()))
    except (BuildError, OSError) as error:
        return f"the framework's, because the kernel was not built: {error}"
    if not library.maskmesh_amx_is_available():
        return "the framework's, because the system does not grant the matrix units"
    try:
        parallel_for = getattr(ctypes.CDLL(str(framework / "libtorch_cpu.so")), _PARALLEL_FOR)
    except (OSError, AttributeError):
        return f"the framework's, because it has no {_PARALLEL_FOR}"
    _kernel = _Kernel(library, ctypes.cast(parallel_for, ctypes.c_void_p))
    return "our own, on matrix units"


def can_attend(key_width: int, value_width: int) -> bool:
    """Whether the kernel is in use and accepts these widths of keys and values."""
    fits = key_width % KEY_UNIT == 0 and value_width % VALUE_UNIT == 0
    return _kernel is not None and fits and 0 < key_width <= MAX_WIDTH and 0 < value_width <= MAX_WIDTH


def can_pack_memories(width: int, memory_width: int, places: int) -> bool:
    """Whether the kernel accepts memories of ``memory_width`` on grids of ``places`` positions."""
    return can_attend(width, memory_width) and memory_width % KEY_UNIT == 0 and places % VALUE_UNIT == 0


def attend(query: Strided, key: Strided, value: Strided, out: Strided, *, threads: int) -> None:
    """Scaled dot-product attention, written to ``out``.

    query: [B, N, heads, D]; key: [B, M, heads, D]; value: [B, M, heads, V]; out: [B, N, heads, V]; all
    bfloat16, with contiguous channels.  Weights are rounded to bfloat16, sums are in float32.
    Raises ValueError if shapes do not match or are not supported.
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
    """Number of elements of ``keys`` packed keys and their values."""
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
    """Project memories to keys, rotate the keys by position, and pack them with the memories as values.

    with_positions: [C, M], memories plus their positional encoding; memories: [C, M]; weight: [D, C]; bias:
    [D]; cosines, sines: [D, P] for a grid of P positions, sines negative for the first channel of a pair.
    The last ``num_pointer_tokens`` of the M tokens are object pointers, which are not rotated; the others
    are whole grids.  packed: [packed_size(M, D, C)].  All are bfloat16 and contiguous.
    Raises ValueError if shapes do not match or are not supported.
    """
    (width, memory_width), places = weight.shape, cosines.shape[1]
    count = with_positions.shape[1]
    _check("with_positions", with_positions, (memory_width, count))
    _check("memories", memories, (memory_width, count))
    _check("bias", bias, (width,))
    _check("cosines", cosines, (width, places))
    _check("sines", sines, (width, places))
    _check("packed", packed, (packed_size(count, width, memory_width),))
    if not can_pack_memories(width, memory_width, places) or (count - num_pointer_tokens) % places:
        raise ValueError(f"memories of width {memory_width} on {places} positions cannot be packed")
    tensors = [_address(tensor) for tensor in (with_positions, memories, weight, bias, cosines, sines)]
    sizes = [ctypes.c_int64(n) for n in (count, count - num_pointer_tokens, places, memory_width, width)]
    kernel = _use(width, memory_width)
    kernel.call("pack_memories", *tensors, *sizes, _address(packed), threads=threads)


def attend_packed(query: Strided, packed: Strided, out: Strided, *, keys: int, threads: int) -> None:
    """Attention with one head to packed keys and values, written to ``out``.

    query: [N, D]; packed: [packed_size(keys, D, V)]; out: [N, V]; rows are contiguous.
    Raises ValueError if shapes do not match or are not supported.
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


def _has_matrix_units() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return {"amx_tile", "amx_bf16", "avx512_bf16"} <= set(flags)


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
        raise ValueError("the elements of a row are not contiguous")
    return ctypes.c_int64(row)


def _tensor(tensor: Strided) -> _Tensor:
    batch, row, head, number = tensor.stride()
    if number != 1:
        raise ValueError("the elements of a head are not contiguous")
    return _Tensor(tensor.data_ptr(), batch, row, head)
