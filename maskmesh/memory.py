"""What the C library keeps of memory that is free."""

import ctypes
from collections.abc import Callable

M_ARENA_MAX = -8  # malloc.h of glibc
ARENAS = 2


def bound_arenas() -> None:
    """Let all threads share two arenas of malloc.  Before the first other thread starts.

    glibc gives threads arenas of their own, up to eight for each core, and what is freed in one is of no use
    to the others.  Where every session has threads of its own, a process would come to hold twice what it
    needs.  Other C libraries have no arenas, and are left alone.
    """
    if (mallopt := _function("mallopt")) is not None:
        mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return free memory to the system: some milliseconds, after sessions have ended.

    Where the C library has no such function, it decides by itself.
    """
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Callable[..., int] | None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
