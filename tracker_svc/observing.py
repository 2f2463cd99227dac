"""What a tracker says of itself to whoever collects metrics."""

import torch

from maskmesh import instruments
from maskmesh.instruments import observe
from tracker_svc.engine import Engine


def observe_tracker(engine: Engine) -> None:
    """Queue, sessions and memory; read whenever metrics are collected."""
    observe(
        instruments.QUEUE_DEPTH,
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
        instruments.observe_store("sessions", engine.store)
    device = engine.info.device
    if device.startswith("cuda"):
        instruments.observe_device_memory(
            lambda: {
                "allocated": torch.cuda.memory_allocated(device),
                "reserved": torch.cuda.memory_reserved(device),
            }
        )
