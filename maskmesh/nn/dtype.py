"""The choice between float32 and bfloat16."""

from enum import Enum
from pathlib import Path
from typing import NamedTuple

import torch

from maskmesh.types import DTypeName, DTypeSetting


class Bfloat16(Enum):
    """How a device computes in bfloat16."""

    FAST = "fast"
    SLOW = "slow"
    """Natively, but slower than in float32."""
    NONE = "none"
    """By conversion back and forth."""


class DTypeChoice(NamedTuple):
    """A type, and why it was chosen."""

    name: DTypeName
    reason: str


def choose_dtype(setting: DTypeSetting, *, device: str, bfloat16: Bfloat16) -> DTypeChoice:
    """The type for a device; ``auto`` is the faster one."""
    if setting != "auto":
        return DTypeChoice(setting, "as set")
    match bfloat16:
        case Bfloat16.FAST:
            return DTypeChoice("bfloat16", f"native on {device}")
        case Bfloat16.SLOW:
            return DTypeChoice("float32", f"bfloat16 is slower on {device}, an Intel processor without AMX")
        case Bfloat16.NONE:
            return DTypeChoice("float32", f"bfloat16 is not native on {device}")


def bfloat16_of(device: torch.device) -> Bfloat16:
    """How a device computes in bfloat16.

    Decided by what the processor is and not by measurement, because all services of a mesh must come to the
    same type.
    """
    if device.type == "cuda":
        return Bfloat16.FAST if torch.cuda.is_bf16_supported(including_emulation=False) else Bfloat16.NONE
    capabilities = torch.cpu.get_capabilities()
    return bfloat16_of_cpu({name for name, has in capabilities.items() if has is True}, _vendor())


def bfloat16_of_cpu(capabilities: set[str], vendor: str) -> Bfloat16:
    """How a processor computes in bfloat16, by the names of torch's capabilities.

    Matrix units (AMX), AVX-512 BF16 on AMD and the BF16 of ARM are faster than float32.  Intel's AVX-512 BF16
    reaches 0.6 of the rate of float32 (matrix products on an Emerald Rapids whose AMX is masked).
    """
    if capabilities & {"amx_bf16", "bf16"}:
        return Bfloat16.FAST
    if "avx512_bf16" in capabilities:
        return Bfloat16.SLOW if vendor == "GenuineIntel" else Bfloat16.FAST
    return Bfloat16.NONE


def _vendor() -> str:
    """The vendor id of the processor, empty if it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
