"""Accelerators: synchronisation for timing, and memory for metrics."""

from collections.abc import Callable

import torch

from maskmesh.status import DeviceMemory
from maskmesh.telemetry import metrics


def usable_device(name: str) -> torch.device:
    """The device of a setting.  Raises ValueError if this machine or this build of torch lacks it."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises several kinds, some of many lines
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"the device {name!r} cannot be used: {reason}") from error
    return device


def synchronizer(device: torch.device) -> Callable[[], None] | None:
    """A function that waits for a device's queue, None for a CPU, which has none."""
    if device.type != "cuda":
        return None
    return lambda: torch.cuda.synchronize(device)


def observe_device_memory(device: str) -> None:
    """Report the memory of a CUDA device as a metric; nothing for a CPU."""
    if not device.startswith("cuda"):
        return
    metrics.observe_device_memory(
        lambda: {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
        }
    )


def device_memory(device: str) -> DeviceMemory | None:
    """The memory of a CUDA device; None for a CPU."""
    if not device.startswith("cuda"):
        return None
    return DeviceMemory(
        allocated_bytes=torch.cuda.memory_allocated(device),
        peak_allocated_bytes=torch.cuda.max_memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        total_bytes=torch.cuda.get_device_properties(device).total_memory,
    )
