"""What a tracker says of itself to whoever collects metrics."""

import torch

from maskmesh.telemetry import metrics
from maskmesh.telemetry.metrics import observe
from tracker_svc.components import Engine


def observe_tracker(engine: Engine) -> None:
    """Queue, sessions and memory; read whenever metrics are collected."""
    observe(
        metrics.QUEUE_DEPTH,
        lambda: {"device": engine.worker.num_waiting},
        by="queue",
        unit="{item}",
        description="Steps that wait",
    )
    observe(
        "maskmesh.sessions",
        lambda: {
            "open": len(engine.sessions),
            "propagating": engine.sessions.num_propagating,
            "limit": engine.settings.max_sessions,
        },
        by="kind",
        unit="{session}",
        description="Sessions of which this tracker has the objects",
    )
    if engine.store is not None:
        metrics.observe_store("sessions", engine.store)
    device = engine.info.device
    if device.startswith("cuda"):
        metrics.observe_device_memory(
            lambda: {
                "allocated": torch.cuda.memory_allocated(device),
                "reserved": torch.cuda.memory_reserved(device),
            }
        )
