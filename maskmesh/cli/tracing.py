"""Traces of the commands themselves, where an application's traces are exported."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span

from maskmesh import telemetry
from maskmesh.telemetry.config import load_telemetry

SERVICE = "maskmesh-cli"


@contextmanager
def traced(command: str) -> Iterator[None]:
    """Run a command in a trace of its own, if an exporter or an OTLP endpoint is set.

    Its calls are then in one trace with what the services do for them, and with the command's own steps.
    Local trace files are those of services only.
    """
    settings = load_telemetry(warns=False)  # the services warn
    if not command or settings.effective_exporter not in ("otlp", "console"):
        yield
        return
    # Imported here, because the SDK is slow to import and most commands run without it.
    from maskmesh.telemetry.otel_sdk import set_up_tracing, shut_down_tracing

    provider = set_up_tracing(SERVICE, settings)
    try:
        with step(f"maskmesh {command}"):
            yield
    finally:
        shut_down_tracing(provider)


@contextmanager
def step(name: str) -> Iterator[Span]:
    """A span of the command's own work: upload, tracking, drawing."""
    with telemetry.tracer().start_as_current_span(name) as span:
        yield span
