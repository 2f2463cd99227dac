"""Metrics of the tracker service."""

from maskmesh.nn.device import observe_device_memory
from maskmesh.telemetry import metrics
from maskmesh.telemetry.metrics import observe
from tracker_svc.components import Components


def observe_tracker(components: Components) -> None:
    """Register metrics of the queue, sessions and device memory; values are read at each collection."""
    observe(
        metrics.QUEUE_DEPTH,
        lambda: {"device": components.worker.num_queued},
        by="queue",
        unit="{item}",
        description="Steps in the queue",
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
        description="Sessions on this tracker",
    )
    if components.store is not None:
        metrics.observe_store("sessions", components.store)
    observe_device_memory(components.info.device)
