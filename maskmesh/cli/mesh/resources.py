"""What this machine grants: cores, memory, instruction sets, accelerators."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from maskmesh.scheduling.control_groups import available_cores, memory_limit

_CPUINFO = Path("/proc/cpuinfo")

# Instruction sets that the services use, the strongest first.
_INSTRUCTIONS = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")

PROBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of the processes that a command starts."""

    cores: int
    memory_bytes: int
    memory_source: str
    """Where the limit comes from: the container or the machine."""
    has_matrix_units: bool
    device_bytes: int = 0
    """Memory of the accelerator; 0 for a CPU, and where it is not known."""
    is_accelerator: bool = False
    """Whether the model runs on another device than the processor."""


def resources(device: str) -> Resources:
    """The resources that this process may use with a torch device."""
    machine, limit = psutil.virtual_memory().total, memory_limit()
    is_limited = limit is not None and limit < machine
    return Resources(
        cores=available_cores(),
        memory_bytes=limit if is_limited and limit is not None else machine,
        memory_source="the container's limit" if is_limited else "the machine",
        has_matrix_units="amx_bf16" in instruction_sets(),
        device_bytes=_cuda_bytes(device) if device.startswith("cuda") else 0,
        is_accelerator=not device.startswith("cpu"),
    )


def instruction_sets(cpuinfo: Path = _CPUINFO) -> list[str]:
    """The instruction sets of the processor that the services use, the strongest first."""
    if not cpuinfo.exists():
        return []
    flags = next((x for x in cpuinfo.read_text().splitlines() if x.startswith(("flags", "Features"))), "")
    return [name for name in _INSTRUCTIONS if name in flags.split()]


def _cuda_bytes(device: str) -> int:
    """The memory of a GPU by NVIDIA's tool, because the command has no torch; 0 if it does not tell."""
    number = device.partition(":")[2] or "0"
    query = ["nvidia-smi", f"--id={number}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True)
        return int(done.stdout.strip().splitlines()[0]) * 2**20
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return 0
