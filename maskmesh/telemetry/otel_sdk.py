"""Set-up of OpenTelemetry's SDK: exporters of traces, and the Prometheus endpoint.

The standard variables of OpenTelemetry decide wherever there is one; maskmesh adds the local trace files.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from prometheus_client import CollectorRegistry, start_http_server

from maskmesh.telemetry.bounded_file import BoundedFile
from maskmesh.telemetry.config import TelemetrySettings
from maskmesh.telemetry.exemplars import ExemplarCollector, ExemplarReader
from maskmesh.telemetry.metrics import SPANS, observe
from maskmesh.telemetry.stages import emit_pending
from maskmesh.version import __version__

logger = logging.getLogger(__name__)


def set_up_tracing(service: str, settings: TelemetrySettings) -> TracerProvider:
    """Trace this process; the caller shuts the provider down, which exports the spans that are left.

    Spans go to the exporter of ``OTEL_TRACES_EXPORTER``, by default to an OTLP receiver if an endpoint is set
    and to a local file if not.  Sampling follows ``OTEL_TRACES_SAMPLER``.
    """
    provider = TracerProvider(resource=_resource(service))
    exporter = _checked_exporter(service, settings)
    if exporter is not None:
        observe(
            SPANS,
            lambda: {"ended": SpanCounter.num_ended, "exported": SpanCounter.num_exported},
            by="state",
            unit="{span}",
            description="Spans that ended, and those of them that were exported",
            counts=True,
        )
        provider.add_span_processor(SpanCounter())
        provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=settings.max_queue_size,
                max_export_batch_size=min(settings.max_export_batch_size, settings.max_queue_size),
                schedule_delay_millis=settings.schedule_delay_ms,
            )
        )
    trace.set_tracer_provider(provider)
    return provider


def shut_down_tracing(provider: TracerProvider) -> None:
    """Export the spans that are left, as long as the receiver takes them; a local file takes all."""
    emit_pending()
    thread = threading.Thread(target=provider.shutdown, name="export-spans", daemon=True)
    thread.start()
    deadline = time.monotonic() + MAX_FLUSH_SECONDS
    while thread.is_alive() and time.monotonic() < deadline:
        before = SpanCounter.num_exported
        thread.join(NO_PROGRESS_SECONDS)
        if SpanCounter.num_exported == before and SpanCounter.has_receiver:
            break
    if lost := SpanCounter.num_ended - SpanCounter.num_exported:
        logger.warning("%d spans were lost, because the receiver of traces does not take them", lost)


# How long the export of the last spans may take, and how long nothing may arrive meanwhile.  The services of
# a mesh stop in three steps, so a dead receiver costs three times the second.
MAX_FLUSH_SECONDS = 30.0
NO_PROGRESS_SECONDS = 0.9


class SpanCounter(SpanProcessor):
    """Counts the spans of this process that ended and are sampled, and those that were exported."""

    num_ended = 0
    num_exported = 0
    has_receiver = False
    """Whether spans go to a receiver, which may be dead."""

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        SpanCounter.num_ended += bool(context is not None and context.trace_flags.sampled)


class CountingExporter(SpanExporter):
    """Counts what another exporter exports."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            SpanCounter.num_exported += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _checked_exporter(service: str, settings: TelemetrySettings) -> SpanExporter | None:
    """The exporter of the settings; None, with a warning, if it cannot be made: traces stop no service."""
    try:
        exporter = _exporter(service, settings)
    except Exception as error:  # a folder that cannot be written, a certificate or variable that is invalid
        logger.warning("traces are not exported: %s", error)
        return None
    SpanCounter.has_receiver = settings.effective_exporter == "otlp"
    return None if exporter is None else CountingExporter(exporter)


def _exporter(service: str, settings: TelemetrySettings) -> SpanExporter | None:
    match settings.effective_exporter:
        case "otlp":
            if settings.otlp_protocol == "http/protobuf":
                return HttpSpanExporter()
            # An endpoint without a scheme means plain text here, as in most of OpenTelemetry's SDKs.
            is_plain = "://" not in settings.otlp_endpoint and settings.otlp_insecure is None
            return GrpcSpanExporter(insecure=True if is_plain else None)
        case "console":
            return ConsoleSpanExporter()
        case "file":
            folder = Path(settings.trace_dir)
            folder.mkdir(parents=True, exist_ok=True)
            file = BoundedFile(folder / f"{service}-{os.getpid()}.jsonl", settings.trace_bytes)
            return FileSpanExporter(stream=cast(IO[str], file))
        case _:
            return None


def serve_metrics(service: str, *, host: str, port: int) -> None:
    """Serve Prometheus at ``http://host:port/metrics``, with exemplars in the OpenMetrics format.

    Raises OSError if the port is taken.
    """
    inner, outer = CollectorRegistry(), CollectorRegistry()
    reader = ExemplarReader(inner)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader], resource=_resource(service)))
    outer.register(ExemplarCollector(inner, reader))
    start_http_server(port, addr=host, registry=outer)
    logger.info("metrics at http://%s:%d/metrics", host, port)


def _resource(service: str) -> Resource:
    """The resource of this process.  ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` override it."""
    host = socket.gethostname()
    defaults = Resource.create(
        {
            "service.name": service,
            "service.namespace": "maskmesh",
            "service.version": __version__,
            "service.instance.id": f"{host}-{os.getpid()}",
            "host.name": host,
            "process.pid": os.getpid(),
        }
    )
    return defaults.merge(OTELResourceDetector().detect())
