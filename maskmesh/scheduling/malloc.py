"""Settings of glibc's malloc: how much freed memory a process keeps."""

import ctypes
from collections.abc import Callable

# Parameters of glibc's malloc.h.  Other C libraries have none of them and are not changed.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
M_ARENA_MAX = -8

ARENAS = 2

# The largest block of a frame, and the freed memory that is kept for the next frames.
KEPT_BLOCK_BYTES = 2**25
KEPT_FRAMES_BYTES = 2**27

# Freed memory that a model's process keeps, and the growth of its heap at once.
KEPT_BYTES = 2**31 - 1
GROWTH_BYTES = 2**26


def retain_freed_frames() -> None:
    """Keep freed memory for a few frames, in two arenas for all threads.  Call before other threads start.

    By default glibc returns large blocks to the system when they are freed, and touching fresh pages costs
    more than decoding a frame into them.  It also gives each thread an arena, up to eight for each core, and
    memory that is freed in one arena is not reused by the others.
    """
    _set(
        {
            M_ARENA_MAX: ARENAS,
            M_MMAP_THRESHOLD: KEPT_BLOCK_BYTES,
            M_TRIM_THRESHOLD: KEPT_FRAMES_BYTES,
        }
    )


def retain_freed_memory() -> None:
    """Keep freed memory, for models on a CPU.  Call before other threads start.

    By default glibc returns large blocks to the system when they are freed.  Every step of a model allocates
    and frees hundreds of megabytes, and touching fresh pages costs more than many operations on them.  There
    is one arena, because only the first arena's heap is unbounded.  :func:`trim_heap` still returns free
    memory.
    """
    _set({M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: KEPT_BYTES, M_TOP_PAD: GROWTH_BYTES})


def trim_heap() -> None:
    """Return free memory to the system; takes some milliseconds.  Does nothing without glibc."""
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    if (mallopt := _function("mallopt")) is not None:
        for parameter, value in values.items():
            mallopt(parameter, value)


def _function(name: str) -> Callable[..., int] | None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
