"""GetMesh: the state of this gateway and of the services behind it."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace

from gateway.api_keys import current_caller
from gateway.backends.encoders import Encoders
from gateway.backends.trackers import Trackers
from maskmesh import wire
from maskmesh.scheduling.process_usage import process_usage
from maskmesh.status import ServiceStatus, SessionCounts
from maskmesh.telemetry import this_host
from maskmesh.v1 import segmentation_pb2
from maskmesh.version import __version__

# How long a service has to answer.
ANSWER_SECONDS = 1.0


async def mesh_status(
    encoders: Sequence[Encoders],
    trackers: Trackers,
    sessions: SessionCounts,
    *,
    draining: bool,
    trace_url: str,
) -> segmentation_pb2.GetMeshResponse:
    """The state of all services, which are asked at once; ``sessions`` are those of this gateway.

    ``encoders`` are those of images, and those of points if they are others.
    A caller that is no operator gets neither addresses nor names of hosts, errors of services without their
    details, and no number of sessions.
    """
    backends: list[Encoders | Trackers] = [*encoders, trackers]
    others = await asyncio.gather(*(each.statuses(ANSWER_SECONDS) for each in backends))
    own = ServiceStatus(
        kind="gateway",
        version=__version__,
        host=this_host(),
        usage=process_usage(),
        sessions=sessions,
        draining=draining,
        unix_nanos=time.time_ns(),
    )
    statuses = [own, *itertools.chain(*others)]
    if not current_caller().is_operator:
        statuses = [
            replace(s, address="", host="", sessions=None, error="it does not answer" if s.error else "")
            for s in statuses
        ]
    return segmentation_pb2.GetMeshResponse(
        services=[wire.service_status_to_proto(status) for status in statuses], trace_url=trace_url
    )
