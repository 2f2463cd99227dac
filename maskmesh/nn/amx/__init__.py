"""Attention on the matrix units (AMX) of x86 processors, for models in bfloat16; :file:`attention.cpp`.

Built with the package where there is a C++ compiler, and used where the processor has such units:
:func:`enable` says so, or why not.  Tensors are whatever has addresses, shapes and strides in numbers as
torch's have: nothing here imports a framework.
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
