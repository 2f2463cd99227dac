"""The state of the services of a mesh, in plain values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from maskmesh.types import ModelInfo

ServiceKind: TypeAlias = Literal["gateway", "encoder", "tracker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage:
    """What a process uses of its machine; sizes are in bytes, times in seconds."""

    resident_bytes: int
    peak_resident_bytes: int
    cpu_seconds: float
    """Processor time on all cores since its start."""
    uptime_seconds: float
    granted_cores: int
    """Cores that it may use, by affinity and by the quota of its container."""
    visible_cores: int
    """Cores of the machine."""
    memory_limit_bytes: int
    """Memory limit of its container, or the memory of the machine if that is smaller."""
    cpu_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """The memory of an accelerator in bytes."""

    allocated_bytes: int
    peak_allocated_bytes: int
    reserved_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatus:
    """The state of an embedding cache; counters are since the start of the service."""

    hits: int
    misses: int
    joined: int
    """Requests that waited for the encode of another one."""
    evictions: int
    entries: int
    used_bytes: int
    pinned_bytes: int
    budget_bytes: int
    shared_hits: int = 0
    """Embeddings that were found in the cache that encoders share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCounts:
    """The sessions of a service."""

    open: int
    propagating: int
    """Those with an open stream."""
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """The state of one process of a mesh."""

    kind: ServiceKind
    address: str = ""
    """Where the gateway reaches it; empty for the gateway itself."""
    error: str = ""
    """Why it did not answer; then only ``kind`` and ``address`` are known."""
    version: str = ""
    host: str = ""
    model: ModelInfo | None = None
    usage: ProcessUsage | None = None
    device_memory: DeviceMemory | None = None
    queues: Mapping[str, int] = field(default_factory=dict)
    """Length of each queue, by what it waits for."""
    cache: CacheStatus | None = None
    sessions: SessionCounts | None = None
    draining: bool = False
    response_seconds: float = 0.0
    """How long it took to answer the gateway."""
    clock_offset_seconds: float = 0.0
    """Its clock minus the gateway's, exact to half of ``response_seconds``."""
    unix_nanos: int = 0
    """Its time when it answered, in nanoseconds since the epoch."""

    @property
    def name(self) -> str:
        """A name for tables: its kind, and its address if there is one."""
        return f"{self.kind} {self.address}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """The state, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """The state of a gateway and of the services that it knows."""

    services: Sequence[ServiceStatus]
    trace_url: str = ""
    """Where traces are looked up, with ``{trace_id}`` in place of an id."""

    def of_kind(self, kind: ServiceKind) -> list[ServiceStatus]:
        """The services of one kind."""
        return [service for service in self.services if service.kind == kind]

    def names(self) -> list[str]:
        """A different name for each service, in their order: those without an address are numbered."""
        seen: Counter[str] = Counter()
        names = []
        for service in self.services:
            seen[service.name] += 1
            number = seen[service.name]
            names.append(service.name if number == 1 else f"{service.name} {number}")
        return names

    @property
    def model(self) -> ModelInfo | None:
        """The model of a tracker that answered; its ``parameters`` are those of the tracker alone."""
        return next((s.model for s in self.of_kind("tracker") if s.model is not None), None)

    def to_json(self) -> dict[str, Any]:
        """The state, for JSON."""
        return {"services": [service.to_json() for service in self.services], "trace_url": self.trace_url}
