"""Accelerators: synchronisation for timing, and memory for metrics."""

from collections.abc import Callable

import torch

from maskmesh.telemetry import metrics


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
