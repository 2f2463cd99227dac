"""Attention on the matrix units (AMX) of x86 processors, for models in bfloat16; :file:`attention.cpp`.

:mod:`build` compiles the kernel on machines with a C++ compiler.  :func:`enable` uses it if the processor has
matrix units, and otherwise returns the reason.  A tensor is any object with torch's ``data_ptr``, ``shape``
and ``stride``: nothing here imports a framework.
"""

from maskmesh.nn.amx.kernel import (
    Strided,
    attend,
    attend_packed,
    can_attend,
    can_pack_memories,
    enable,
    pack_memories,
    packed_size,
)

__all__ = [
    "Strided",
    "attend",
    "attend_packed",
    "can_attend",
    "can_pack_memories",
    "enable",
    "pack_memories",
    "packed_size",
]
