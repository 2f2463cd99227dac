"""Conversion of the state of services, and of summaries of their work, to messages and back."""

from dataclasses import asdict, fields
from typing import Any, TypeVar

from maskmesh.internal.v1 import embedding_pb2
from maskmesh.status import (
    CacheStatus,
    DeviceMemory,
    MeshStatus,
    ProcessUsage,
    ServiceKind,
    ServiceStatus,
    SessionCounts,
)
from maskmesh.telemetry import WorkSummary
from maskmesh.v1 import segmentation_pb2, status_pb2
from maskmesh.wire.masks import stage_seconds_from_proto, stage_times_to_proto
from maskmesh.wire.models import model_info_from_proto, model_info_to_proto
from maskmesh.wire.values import duration_from_seconds, seconds_from_duration

T = TypeVar("T", DeviceMemory, CacheStatus, SessionCounts)

_KINDS: dict[ServiceKind, status_pb2.ServiceKind] = {
    "gateway": status_pb2.SERVICE_KIND_GATEWAY,
    "encoder": status_pb2.SERVICE_KIND_ENCODER,
    "tracker": status_pb2.SERVICE_KIND_TRACKER,
}


def service_status_to_proto(status: ServiceStatus) -> status_pb2.ServiceStatus:
    """Convert the state of a service to a message."""
    message = status_pb2.ServiceStatus(
        kind=_KINDS[status.kind],
        address=status.address,
        error=status.error,
        version=status.version,
        host=status.host,
        model=None if status.model is None else model_info_to_proto(status.model),
        queues=[status_pb2.QueueStatus(name=name, depth=depth) for name, depth in status.queues.items()],
        draining=status.draining,
        unix_nanos=status.unix_nanos,
    )
    if status.address and not status.error:
        message.response_time.CopyFrom(duration_from_seconds(status.response_seconds))
        message.clock_offset.CopyFrom(duration_from_seconds(status.clock_offset_seconds))
    if (usage := status.usage) is not None:
        message.usage.CopyFrom(
            status_pb2.ProcessUsage(
                resident_bytes=usage.resident_bytes,
                peak_resident_bytes=usage.peak_resident_bytes,
                cpu_time=duration_from_seconds(usage.cpu_seconds),
                uptime=duration_from_seconds(usage.uptime_seconds),
                granted_cores=usage.granted_cores,
                visible_cores=usage.visible_cores,
                memory_limit_bytes=usage.memory_limit_bytes,
                cpu_name=usage.cpu_name,
            )
        )
    if (memory := status.device_memory) is not None:
        message.device_memory.CopyFrom(status_pb2.DeviceMemory(**asdict(memory)))
    if (cache := status.cache) is not None:
        message.cache.CopyFrom(status_pb2.CacheStatus(**asdict(cache)))
    if (sessions := status.sessions) is not None:
        message.sessions.CopyFrom(status_pb2.SessionCounts(**asdict(sessions)))
    return message


def service_status_from_proto(message: status_pb2.ServiceStatus) -> ServiceStatus:
    """Convert a message to the state of a service."""
    kinds = {number: kind for kind, number in _KINDS.items()}
    return ServiceStatus(
        kind=kinds.get(message.kind, "gateway"),
        address=message.address,
        error=message.error,
        version=message.version,
        host=message.host,
        model=model_info_from_proto(message.model) if message.HasField("model") else None,
        usage=_usage(message.usage) if message.HasField("usage") else None,
        device_memory=_same_fields(DeviceMemory, message.device_memory)
        if message.HasField("device_memory")
        else None,
        queues={queue.name: queue.depth for queue in message.queues},
        cache=_same_fields(CacheStatus, message.cache) if message.HasField("cache") else None,
        sessions=_same_fields(SessionCounts, message.sessions) if message.HasField("sessions") else None,
        draining=message.draining,
        response_seconds=seconds_from_duration(message.response_time),
        clock_offset_seconds=seconds_from_duration(message.clock_offset),
        unix_nanos=message.unix_nanos,
    )


def mesh_status_from_proto(message: segmentation_pb2.GetMeshResponse) -> MeshStatus:
    """Convert a message to the state of a mesh."""
    return MeshStatus([service_status_from_proto(s) for s in message.services], message.trace_url)


def _usage(message: status_pb2.ProcessUsage) -> ProcessUsage:
    return ProcessUsage(
        resident_bytes=message.resident_bytes,
        peak_resident_bytes=message.peak_resident_bytes,
        cpu_seconds=seconds_from_duration(message.cpu_time),
        uptime_seconds=seconds_from_duration(message.uptime),
        granted_cores=message.granted_cores,
        visible_cores=message.visible_cores,
        memory_limit_bytes=message.memory_limit_bytes,
        cpu_name=message.cpu_name,
    )


def _same_fields(kind: type[T], message: Any) -> T:
    """A value of ``kind``, whose fields have the names of those of the message."""
    return kind(**{field.name: getattr(message, field.name) for field in fields(kind)})


def work_to_proto(work: WorkSummary) -> embedding_pb2.WorkSummary:
    """Convert a summary to a message."""
    return embedding_pb2.WorkSummary(
        times=stage_times_to_proto(work.seconds), batch_sizes=work.batch_sizes, cold=work.is_cold
    )


def work_from_proto(message: embedding_pb2.WorkSummary) -> WorkSummary:
    """Convert a message to a summary."""
    return WorkSummary(stage_seconds_from_proto(message.times), dict(message.batch_sizes), message.cold)
