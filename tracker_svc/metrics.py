"""Metrics and state of the tracker service."""

import time

from maskmesh.nn.device import device_memory, observe_device_memory
from maskmesh.scheduling.process_usage import process_usage
from maskmesh.status import ServiceStatus, SessionCounts
from maskmesh.telemetry import metrics, this_host
from maskmesh.telemetry.metrics import observe
from maskmesh.version import __version__
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


def tracker_status(components: Components, *, draining: bool) -> ServiceStatus:
    """The state of the service."""
    return ServiceStatus(
        kind="tracker",
        version=__version__,
        host=this_host(),
        model=components.info,
        usage=process_usage(),
        device_memory=device_memory(components.info.device),
        queues={"device": components.worker.num_queued},
        sessions=SessionCounts(
            open=len(components.sessions),
            propagating=components.sessions.num_propagating,
            limit=components.settings.max_sessions,
        ),
        draining=draining,
        unix_nanos=time.time_ns(),
    )
