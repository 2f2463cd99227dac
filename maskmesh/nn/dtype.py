"""The choice between float32 and bfloat16."""

from typing import NamedTuple

import torch

from maskmesh.types import DTypeName, DTypeSetting


class DTypeChoice(NamedTuple):
    """A type, and why it was chosen."""

    name: DTypeName
    reason: str


def choose_dtype(setting: DTypeSetting, *, device: str, has_bfloat16: bool) -> DTypeChoice:
    """The type for a device that computes in bfloat16 natively, or does not.

    ``auto`` is bfloat16 if it is native; if not, it is converted back and forth and slower than float32.
    """
    if setting != "auto":
        return DTypeChoice(setting, "as set")
    if has_bfloat16:
        return DTypeChoice("bfloat16", f"native on {device}")
    return DTypeChoice("float32", f"bfloat16 is not native on {device}")


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 natively: a CPU with AMX or AVX-512 BF16, or a GPU that does."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in ("amx_bf16", "avx512_bf16", "bf16"))
