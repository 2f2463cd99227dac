"""Metrics of the services: their names, and functions that record them.

Instruments are OpenTelemetry's; :mod:`maskmesh.telemetry.otel_sdk` exports them.  Durations of stages are
recorded with the spans of the stages, so that each bucket of the histogram has an example trace.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol, TypeAlias

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation

from maskmesh.telemetry.names import RPC_METHOD, RPC_STATUS, RPC_SYSTEM

logger = logging.getLogger(__name__)

Reading: TypeAlias = float | Mapping[str, float]
"""A number, or numbers by the value of one attribute."""

STAGE_DURATION: Final = "maskmesh.stage.duration"
CALL_DURATION: Final = "rpc.server.call.duration"
BATCH_SIZE: Final = "maskmesh.batch.size"
FRAMES: Final = "maskmesh.frames"
MOVED_SESSIONS: Final = "maskmesh.sessions.moved"
REFUSED: Final = "maskmesh.refused"
CALLS: Final = "maskmesh.calls"
SPANS: Final = "maskmesh.spans"
QUEUE_DEPTH: Final = "maskmesh.queue.depth"
DEVICE_MEMORY: Final = "maskmesh.device.memory"
STORE_FAILURES: Final = "maskmesh.store.failures"
STORE_DOWN: Final = "maskmesh.store.down"

# Seconds, from an empty call to an encoder without matrix units.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


def _make_meter() -> metrics.Meter:
    """The meter of the process, which does nothing if the variables of OpenTelemetry are invalid."""
    try:
        return metrics.get_meter("maskmesh")
    except Exception as error:  # StopIteration for an unknown provider
        logger.warning("metrics are off: OTEL_PYTHON_METER_PROVIDER: %r", error)
        return metrics.NoOpMeterProvider().get_meter("maskmesh")


_meter = _make_meter()

_stage_duration = _meter.create_histogram(
    STAGE_DURATION,
    unit="s",
    description="Time of a stage of the model, of a queue or of a transfer",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_call_duration = _meter.create_histogram(
    CALL_DURATION,
    unit="s",
    description="Time of a call at its server",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
_batch_size = _meter.create_histogram(
    BATCH_SIZE,
    unit="{item}",
    description="Size of a batch",
    explicit_bucket_boundaries_advisory=_SIZES,
)
_frames = _meter.create_counter(FRAMES, unit="{frame}", description="Frames that were tracked or delivered")
_moved = _meter.create_counter(
    MOVED_SESSIONS, unit="{session}", description="Sessions that moved to another tracker"
)
_refused = _meter.create_counter(
    REFUSED, unit="{call}", description="Calls that were refused because of a limit"
)


def record_stage(name: str, seconds: float, waits_for: str, context: Context | None) -> None:
    """Record one run of a stage; ``waits_for`` is empty for stages other than ``queue``."""
    attributes: dict[str, str] = {"stage": name}
    if waits_for:
        attributes["waits_for"] = waits_for
    _stage_duration.record(seconds, attributes, context)


def record_call(method: str, code: str, seconds: float) -> None:
    """Record one call at its server; ``code`` is the name of its gRPC status."""
    _call_duration.record(seconds, {RPC_SYSTEM: "grpc", RPC_METHOD: method, RPC_STATUS: code})


def record_batch(name: str, size: int) -> None:
    """Record the batch size of a stage."""
    _batch_size.record(size, {"stage": name})


def count_frame(kind: str) -> None:
    """Count a frame that was ``tracked`` or ``delivered``."""
    _frames.add(1, {"kind": kind})


def count_moved(reason: str, sessions: int = 1) -> None:
    """Count sessions that moved to another tracker, because theirs was ``draining`` or ``gone``.

    Called with 0 at start-up so that the series exists: ``rate()`` cannot see a jump from absent to 1.
    """
    _moved.add(sessions, {"reason": reason})


def count_refused(resource: str) -> None:
    """Count a call that was refused because of a limit."""
    _refused.add(1, {"resource": resource})


def observe(
    name: str, read: Callable[[], Reading], *, unit: str, description: str, by: str = "", counts: bool = False
) -> None:
    """Report a gauge, or with ``counts`` a counter, that is read at each collection.

    If ``read`` returns several numbers by name, ``by`` is the attribute of the names.
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
    """Report the memory of an accelerator, by kind."""
    observe(DEVICE_MEMORY, read, by="kind", unit="By", description="Memory of the device")


class Store(Protocol):
    """A store whose state is reported."""

    failures: int

    @property
    def is_down(self) -> bool:
        """Whether the last operation failed."""


def observe_store(kind: str, store: Store) -> None:
    """Report the failures of a store; ``kind`` is what it stores."""
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
