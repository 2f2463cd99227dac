"""What the C library keeps of memory that is free."""

import ctypes
from collections.abc import Callable

# malloc.h of glibc; other C libraries have nothing of the kind, and are left alone.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
M_ARENA_MAX = -8

ARENAS = 2

# Frames are smaller, and there is one after the other: so large a block is taken from what is kept, and so
# much is kept.
KEPT_BLOCK_BYTES = 2**25
KEPT_FRAMES_BYTES = 2**27

# What a step of a model may free without giving it back, and by how much the heap grows at once.
KEPT_BYTES = 2**31 - 1
GROWTH_BYTES = 2**26


def retain_freed_frames() -> None:
    """Let malloc keep what a few frames take, in two arenas for all threads.  Before the first other starts.

    glibc gives large blocks back to the system as soon as they are freed, and to touch fresh pages costs more
    than to decode a frame into them.  And it gives threads arenas of their own, up to eight for each core:
    what is freed in one is of no use to the others.
    """
    _set(
        {
            M_ARENA_MAX: ARENAS,
            M_MMAP_THRESHOLD: KEPT_BLOCK_BYTES,
            M_TRIM_THRESHOLD: KEPT_FRAMES_BYTES,
        }
    )


def retain_freed_memory() -> None:
    """Let malloc keep what is freed, for models on a CPU.  Before the first other thread starts.

    glibc gives large blocks back to the system as soon as they are freed.  Every step of a model takes and
    frees hundreds of megabytes, and touching fresh pages costs more than many an operation on them.  One
    arena, because only its heap may grow without a bound.  :func:`trim_heap` still returns what is free.
    """
    _set({M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT_BYTES, M_TOP_PAD: GROWTH_BYTES})


def trim_heap() -> None:
    """Return free memory to the system: some milliseconds, after sessions have ended.

    Where the C library has no such function, it decides by itself.
    """
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    if (mallopt := _function("mallopt")) is not None:
        for parameter, value in values.items():
            mallopt(parameter, value)


def _function(name: str) -> Callable[..., int] | None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
