"""What a tracker says of itself to whoever collects metrics."""

import torch

from maskmesh.telemetry import metrics
from maskmesh.telemetry.metrics import observe
from tracker_svc.components import Components


def observe_tracker(components: Components) -> None:
    """Queue, sessions and memory; read whenever metrics are collected."""
    observe(
        metrics.QUEUE_DEPTH,
        lambda: {"device": components.worker.num_waiting},
        by="queue",
        unit="{item}",
        description="Steps that wait",
    )
    observe(
        "maskmesh.sessions",
        lambda: {
            "open": len(components.sessions),
            "propagating": components.sessions.num_propagating,
            "limit": components.settings.max_sessions,
        },
        by="kind",
        unit="{session}",
        description="Sessions of which this tracker has the objects",
    )
    if components.store is not None:
        metrics.observe_store("sessions", components.store)
    device = components.info.device
    if device.startswith("cuda"):
        metrics.observe_device_memory(
            lambda: {
                "allocated": torch.cuda.memory_allocated(device),
                "reserved": torch.cuda.memory_reserved(device),
            }
        )
