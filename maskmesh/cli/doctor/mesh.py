"""The services of a mesh: who answers, whether they agree, and whether they have room."""

from collections.abc import Iterator

from maskmesh.cli.doctor.finding import Finding
from maskmesh.status import MeshStatus, ServiceStatus

# Above this, spans of different hosts are visibly out of order until the gateway has learnt the offset.
MAX_SKEW_SECONDS = 0.05

# Shares above which a limit is near.
FULL = 0.9


def mesh_findings(mesh: MeshStatus) -> Iterator[Finding]:
    """What the services say of themselves."""
    for service in mesh.services:
        yield from _service(service)
    answered = [service for service in mesh.services if not service.error]
    yield from _agreement(answered)
    for kind in ("encoder", "tracker"):
        if not any(service.kind == kind for service in answered):
            advice = f"start one, and give its address to the gateway (--{kind})"
            yield Finding("problem", kind, f"no {kind} answers", advice)


def _service(service: ServiceStatus) -> Iterator[Finding]:
    if service.error:
        yield Finding(
            "problem",
            service.name,
            f"does not answer: {service.error}",
            "look at its log; check that the gateway can reach the address (DNS, network policy, TLS)",
        )
        return
    parts = []
    if service.model is not None:
        model = service.model
        parts.append(f"{model.model_id} on {model.device} with {model.threads} threads")
    if service.address:
        parts.append(f"answers in {service.response_seconds * 1000:.1f} ms")
    if (usage := service.usage) is not None:
        parts.append(f"{usage.resident_bytes / 2**20:.0f} MiB, peak {usage.peak_resident_bytes / 2**20:.0f}")
        parts.append(f"{usage.granted_cores} of {usage.visible_cores} cores")
    yield Finding("ok", service.name, "; ".join(parts))
    yield from _limits(service)
    # Half of the answer's time is the most by which the offset can be wrong.
    skew = abs(service.clock_offset_seconds) - service.response_seconds / 2
    if skew > MAX_SKEW_SECONDS:
        yield Finding(
            "warning",
            service.name,
            f"its clock differs by {service.clock_offset_seconds * 1000:+.0f} ms from the gateway's",
            "synchronise the clocks (chrony); traces are corrected, logs are not",
        )


def _limits(service: ServiceStatus) -> Iterator[Finding]:
    if service.draining:
        yield Finding("warning", service.name, "is draining: it takes no new sessions")
    usage, sessions = service.usage, service.sessions
    if usage is not None and usage.resident_bytes > FULL * usage.memory_limit_bytes:
        yield Finding(
            "warning",
            service.name,
            f"uses {usage.resident_bytes / usage.memory_limit_bytes:.0%} of its memory limit",
            "raise the limit, or lower --cache-bytes (encoder) and --max-sessions (tracker)",
        )
    if sessions is not None and sessions.open >= FULL * sessions.limit:
        yield Finding(
            "warning",
            service.name,
            f"has {sessions.open} of {sessions.limit} sessions",
            "delete sessions that are not used, shorten their TTL, or add trackers",
        )


def _agreement(services: list[ServiceStatus]) -> Iterator[Finding]:
    versions = {service.version for service in services}
    if len(versions) > 1:
        yield Finding(
            "warning",
            "versions",
            f"services run versions {', '.join(sorted(versions))}",
            "finish the rollout",
        )
    models = {service.model.model_id for service in services if service.model is not None}
    if len(models) > 1:
        yield Finding(
            "problem",
            "models",
            f"services run different models: {', '.join(sorted(models))}",
            "give all of them the same --model, --checkpoint, --image-size and --dtype",
        )
    by_host: dict[str, int] = {}
    cores: dict[str, int] = {}
    for service in services:
        if not service.host:
            continue  # the key is not an operator's: which services share a machine is not known
        if service.model is not None and service.usage is not None and service.model.device == "cpu":
            by_host[service.host] = by_host.get(service.host, 0) + service.model.threads
            cores[service.host] = service.usage.granted_cores
    for host, threads in by_host.items():
        if threads > 2 * cores[host]:
            yield Finding(
                "warning",
                "threads",
                f"{threads} threads on {cores[host]} cores of {host}: threads fight",
                "set --shared-cores to one folder for the services of a machine, or --threads",
            )
