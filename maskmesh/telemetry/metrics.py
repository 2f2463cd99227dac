"""What services measure of themselves, beside traces: names of metrics, and how to record them.

Instruments are OpenTelemetry's; :mod:`maskmesh.telemetry.otel_sdk` says where they go.  Durations of stages are
recorded where spans are emitted, within the same trace, so that a reader finds an example of each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol, TypeAlias

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation

Attributes: TypeAlias = Mapping[str, str | int | bool]
Reading: TypeAlias = float | Mapping[str, float]
"""A number, or numbers by the value of one attribute."""

STAGE_DURATION: Final = "maskmesh.stage.duration"
CALL_DURATION: Final = "rpc.server.call.duration"
BATCH_SIZE: Final = "maskmesh.batch.size"
FRAMES: Final = "maskmesh.frames"
MOVED_SESSIONS: Final = "maskmesh.sessions.moved"
REFUSED: Final = "maskmesh.refused"
QUEUE_DEPTH: Final = "maskmesh.queue.depth"
DEVICE_MEMORY: Final = "maskmesh.device.memory"
STORE_FAILURES: Final = "maskmesh.store.failures"
STORE_DOWN: Final = "maskmesh.store.down"

# Seconds, from an empty call to an encoder without matrix units.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)

_meter = metrics.get_meter("maskmesh")

_stage_duration = _meter.create_histogram(
    STAGE_DURATION,
    unit="s",
    description="Time in a stage of the model, in a queue or on the way",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_call_duration = _meter.create_histogram(
    CALL_DURATION,
    unit="s",
    description="Time of a call in its handler",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_batch_size = _meter.create_histogram(
    BATCH_SIZE,
    unit="{item}",
    description="How much was computed at once",
    explicit_bucket_boundaries_advisory=_SIZES,
)
_frames = _meter.create_counter(FRAMES, unit="{frame}", description="Frames that were tracked, or delivered")
_moved = _meter.create_counter(
    MOVED_SESSIONS, unit="{session}", description="Sessions that went to another tracker"
)
_refused = _meter.create_counter(REFUSED, unit="{call}", description="Calls that met a limit")


def record_stage(name: str, seconds: float, waits_for: str, context: Context | None) -> None:
    """One run of a stage; ``waits_for`` is what a queue waits for, else empty."""
    attributes: dict[str, str] = {"stage": name}
    if waits_for:
        attributes["waits_for"] = waits_for
    _stage_duration.record(seconds, attributes, context)


def record_call(method: str, code: str, seconds: float) -> None:
    """One call that was handled; ``code`` is the name of its gRPC status."""
    _call_duration.record(seconds, {"rpc.method": method, "rpc.response.status_code": code})


def record_batch(name: str, size: int) -> None:
    """How much a stage computed at once."""
    _batch_size.record(size, {"stage": name})


def count_frame(kind: str) -> None:
    """A frame was ``tracked`` or ``delivered``."""
    _frames.add(1, {"kind": kind})


def count_moved(reason: str, sessions: int = 1) -> None:
    """Sessions went to another tracker: ``draining`` or ``gone``.

    None did, before the first: of a count that begins with one, nobody can say that it has grown.
    """
    _moved.add(sessions, {"reason": reason})


def count_refused(resource: str) -> None:
    """A call was refused because of a limit."""
    _refused.add(1, {"resource": resource})


def observe(
    name: str, read: Callable[[], Reading], *, unit: str, description: str, by: str = "", counts: bool = False
) -> None:
    """Read a level whenever metrics are collected, or with ``counts`` a number that only grows.

    Where ``read`` returns numbers by names, ``by`` is the attribute that has the names.
    """

    def callback(options: CallbackOptions) -> Iterator[Observation]:
        reading = read()
        if isinstance(reading, Mapping):
            for value, number in reading.items():
                yield Observation(number, {by: value})
        else:
            yield Observation(reading)

    if counts:
        _meter.create_observable_counter(name, [callback], unit=unit, description=description)
    else:
        _meter.create_observable_gauge(name, [callback], unit=unit, description=description)


def observe_device_memory(read: Callable[[], Mapping[str, float]]) -> None:
    """The memory of an accelerator, by kind."""
    observe(DEVICE_MEMORY, read, by="kind", unit="By", description="Memory of the device")


class Store(Protocol):
    """A store that services share."""

    failures: int

    @property
    def is_down(self) -> bool:
        """Whether it does not answer."""


def observe_store(kind: str, store: Store) -> None:
    """Whether a store answers; ``kind`` says what is in it."""
    observe(
        STORE_FAILURES,
        lambda: {kind: store.failures},
        by="store",
        unit="{operation}",
        description="Operations of a store that failed",
        counts=True,
    )
    observe(
        STORE_DOWN,
        lambda: {kind: int(store.is_down)},
        by="store",
        unit="1",
        description="Whether a store does not answer",
    )
