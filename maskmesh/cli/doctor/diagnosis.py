"""What a measured run says about where the time goes, and what to do about it."""

from collections.abc import Iterator

from maskmesh import telemetry
from maskmesh.cli.doctor.finding import Finding
from maskmesh.cli.doctor.measurement import Measurement
from maskmesh.status import MeshStatus, ServiceStatus

# A first call that takes so many times longer is start-up.
COLD_FACTOR = 3.0

# Shares of the time between two results.
BOUND = 0.8
SLOW_READER = 0.5
SLOW_TRANSFER = 0.25

# Below this share of its threads, a service waits for others.
IDLE = 0.4

_ENCODER = (telemetry.PREPROCESS, telemetry.IMAGE_ENCODER)
_TRACKER = (
    telemetry.MEMORY_ATTENTION,
    telemetry.PROMPT_ENCODER,
    telemetry.MASK_DECODER,
    telemetry.MEMORY_ENCODER,
    telemetry.POSTPROCESS,
    *telemetry.SAM3_STAGES,
)


def diagnose(measured: Measurement, mesh: MeshStatus) -> Iterator[Finding]:
    """The findings of a run, of which none excludes another."""
    rate = 1 / measured.frame
    yield Finding(
        "ok",
        "speed",
        f"{rate:.1f} frames a second; first click {_ms(measured.first_click)}, again "
        f"{_ms(measured.click_again)}; stages: "
        + ", ".join(f"{stage} {_ms(seconds)}" for stage, seconds in measured.stages.items()),
    )
    yield from _cold_start(measured)
    yield from _bottleneck(measured, mesh)
    yield from _caches(measured)


def _cold_start(measured: Measurement) -> Iterator[Finding]:
    if measured.first_frame > COLD_FACTOR * measured.frame or (
        measured.first_click > COLD_FACTOR * (measured.click_again + _sum(measured, _ENCODER))
    ):
        yield Finding(
            "note",
            "cold start",
            f"the first frame took {_ms(measured.first_frame)}, later ones {_ms(measured.frame)}: start-up "
            "is not the speed of the mesh",
            "wait for readiness, which includes a warm-up; measure without the first results",
        )


def _bottleneck(measured: Measurement, mesh: MeshStatus) -> Iterator[Finding]:
    reader = measured.stages.get(telemetry.DECODE_IMAGE, 0.0)
    fetch = measured.stages.get(telemetry.FETCH_EMBEDDING, 0.0)
    interval = measured.frame
    if reader > SLOW_READER * interval:
        yield Finding(
            "warning",
            "reader too slow",
            f"decoding takes {_ms(reader)} of {_ms(interval)} a frame",
            "send videos rather than PNG files, smaller frames, or give the gateway more cores",
        )
    if fetch > SLOW_TRANSFER * interval:
        yield Finding(
            "warning",
            "transfer dominates",
            f"fetching embeddings takes {_ms(fetch)} of {_ms(interval)} a frame",
            "run encoder and tracker on one machine with shared memory, or use --dtype bfloat16",
        )
    shares = {
        service.name: _busy_share(service, measured)
        for service in mesh.services
        if service.model is not None and service.name in measured.busy_cores
    }
    cores = _cores(mesh)
    busy = sum(measured.busy_cores.values())
    if cores and busy >= BOUND * cores and max(shares.values(), default=0.0) < BOUND:
        yield Finding(
            "note",
            "the cores are the bottleneck",
            f"services keep {busy:.1f} of {cores} cores busy",
            "grant more cores, or move encoders to another machine",
        )
    for service in mesh.services:
        share = shares.get(service.name)
        if share is not None and share >= BOUND:
            subject = f"{service.kind} is the bottleneck"
            yield Finding("note", subject, _busy(service, share), _ADVICE[service.kind])
        elif share is not None and max(shares.values()) < IDLE and busy < IDLE * max(cores, 1):
            subject = "encoder starved" if service.kind == "encoder" else "device idle"
            yield Finding(
                "warning",
                subject,
                f"{_busy(service, share)}: it waits",
                "several sessions at once fill it; the waterfall (maskmesh report) shows a slow client, "
                "network or reader",
            )


_ADVICE = {
    "encoder": "add encoder replicas, use a smaller --image-size or model, or a GPU",
    "tracker": "use a smaller model or --image-size; more trackers help several sessions, not one",
}


def _cores(mesh: MeshStatus) -> int:
    """The cores of the machines of the mesh, each counted once; 0 if services do not say where they run."""
    if not all(s.host for s in mesh.services):
        return 0
    machines = {s.host: s.usage.granted_cores for s in mesh.services if s.usage is not None}
    return sum(machines.values())


def _busy_share(service: ServiceStatus, measured: Measurement) -> float:
    """The share of the time in which a service computed; on an accelerator, that of its stages."""
    assert service.model is not None, "a gateway has no device"
    if service.model.device.startswith("cpu"):
        return measured.busy_cores[service.name] / max(1, service.model.threads)
    return _sum(measured, _ENCODER if service.kind == "encoder" else _TRACKER) / measured.frame


def _busy(service: ServiceStatus, share: float) -> str:
    assert service.model is not None, "a gateway has no device"
    return f"{service.name} is busy for {min(share, 1):.0%} of the time on {service.model.device}"


def _caches(measured: Measurement) -> Iterator[Finding]:
    if measured.evictions or measured.late_click_encoded:
        yield Finding(
            "warning",
            "cache thrashing",
            f"{measured.evictions} embeddings were evicted during the run (those of other users count), and "
            f"a late click took {_ms(measured.late_click)}",
            "raise --cache-bytes of the encoders, or set MASKMESH_CACHE_URL so that they share a cache",
        )


def _sum(measured: Measurement, stages: tuple[str, ...]) -> float:
    return sum(measured.stages.get(stage, 0.0) for stage in stages)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
