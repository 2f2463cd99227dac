"""Where traces and metrics of a process go: the only module that knows OpenTelemetry's SDK.

Traces go to an OTLP receiver or to a file, metrics to whoever asks this process for them.
"""

import bisect
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

logger = logging.getLogger(__name__)


class CountingExporter(SpanExporter):
    """Passes spans on and counts those that arrived."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.exported = 0
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export through the wrapped exporter."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        return result

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


class CountingProcessor(BatchSpanProcessor):
    """A batch processor that knows how many spans never arrived."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._counting = CountingExporter(exporter)
        self._ended = 0
        super().__init__(self._counting, max_queue_size=65_536, schedule_delay_millis=1_000)

    def on_end(self, span: ReadableSpan) -> None:
        """Count and queue a span."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._ended += 1
        super().on_end(span)

    @property
    def dropped(self) -> int:
        """Spans that ended and were not exported; meaningful after a flush."""
        return self._ended - self._counting.exported


class BoundedFile:
    """A text stream into a file that never outgrows ``max_bytes``.

    When half of that is full the file becomes ``NAME.old.jsonl``, in place of the one before, and a new one
    is begun: the newest half is always there.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._half = max_bytes // 2
        self._file = path.open("a", encoding="utf-8")

    def write(self, text: str) -> int:
        """Write one line."""
        if self._file.tell() and self._file.tell() + len(text) > self._half:
            self._file.close()
            self._path.replace(self._path.with_suffix(".old.jsonl"))
            self._file = self._path.open("a", encoding="utf-8")
        return self._file.write(text)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed


@dataclass(frozen=True, slots=True)
class Tracing:
    """Tracing that was set up for this process."""

    provider: TracerProvider
    processor: CountingProcessor | None

    def shutdown(self) -> None:
        """Flush what is left and say how much was lost."""
        if self.processor is None:
            return
        self.processor.force_flush()
        if self.processor.dropped:
            logger.warning("%d spans were dropped", self.processor.dropped)
        self.provider.shutdown()


def set_up_tracing(service: str, *, otlp_endpoint: str, trace_dir: Path | None, max_bytes: int) -> Tracing:
    """Trace this process: to an OTLP receiver where there is one, else to a file.

    ``otlp_endpoint`` is a gRPC target such as ``http://localhost:4317``; without one, spans go to
    ``trace_dir`` as OTLP JSON lines, a file of at most ``max_bytes`` for each process; without that too they
    are not exported.
    Sampling follows the standard ``OTEL_TRACES_SAMPLER`` variables.
    """
    resource = _resource(service)
    provider = TracerProvider(resource=resource)
    processor = None
    if otlp_endpoint:
        exporter: SpanExporter = OTLPSpanExporter(
            endpoint=otlp_endpoint, insecure=not otlp_endpoint.startswith("https:")
        )
        processor = CountingProcessor(exporter)
    elif trace_dir is not None:
        trace_dir.mkdir(parents=True, exist_ok=True)
        file = BoundedFile(trace_dir / f"{service}-{os.getpid()}.jsonl", max_bytes)
        processor = CountingProcessor(FileSpanExporter(stream=cast(IO[str], file)))
    if processor is not None:
        provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return Tracing(provider, processor)


class _Series(NamedTuple):
    """A series of a histogram, by the name and labels that Prometheus knows it by."""

    name: str
    labels: frozenset[tuple[str, str]]


class _Reader(PrometheusMetricReader):
    """OpenTelemetry's own reader for Prometheus, which passes over exemplars: this one keeps them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry=registry, scope_info_enabled=False)
        self.exemplars: dict[_Series, dict[str, Exemplar]] = {}
        """Of each series the newest, by the upper bound of its bucket."""

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> None:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        if isinstance(point, HistogramDataPoint) and point.exemplars:
                            self._keep(metric.name, point)
        super()._receive_metrics(metrics_data, timeout_millis, **options)

    def _keep(self, name: str, point: HistogramDataPoint) -> None:
        labels = frozenset((_label(k), str(v)) for k, v in (point.attributes or {}).items())
        kept = self.exemplars.setdefault(_Series(_label(name), labels), {})
        for exemplar in point.exemplars:
            if exemplar.trace_id is None or exemplar.span_id is None:
                continue
            place = bisect.bisect_left(point.explicit_bounds, exemplar.value)
            bound = str(point.explicit_bounds[place]) if place < len(point.explicit_bounds) else "+Inf"
            ids = {
                "trace_id": trace.format_trace_id(exemplar.trace_id),
                "span_id": trace.format_span_id(exemplar.span_id),
            }
            kept[bound] = Exemplar(ids, exemplar.value, exemplar.time_unix_nano / 1e9)


class _WithExemplars(Collector):
    """What a reader collects, each bucket with its exemplar."""

    def __init__(self, inner: CollectorRegistry, reader: _Reader) -> None:
        self._inner = inner
        self._reader = reader

    def collect(self) -> Iterator[Metric]:
        """See the library."""
        for family in self._inner.collect():
            if family.type == "histogram":
                family.samples = [self._sample(sample) for sample in family.samples]
            yield family

    def _sample(self, sample: Any) -> Any:
        if not sample.name.endswith("_bucket"):
            return sample
        labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le" and v)
        for series, kept in self._reader.exemplars.items():
            if series.labels == labels and sample.name.startswith(series.name):
                return sample._replace(exemplar=kept.get(sample.labels["le"]))
        return sample


def _label(name: str) -> str:
    """A name as Prometheus has it."""
    return name.replace(".", "_")


def serve_metrics(service: str, *, host: str, port: int) -> None:
    """Answer Prometheus at ``http://host:port/metrics``, with exemplars for who takes OpenMetrics.

    Raises OSError where the port is taken.
    """
    inner, outer = CollectorRegistry(), CollectorRegistry()
    reader = _Reader(inner)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader], resource=_resource(service)))
    outer.register(_WithExemplars(inner, reader))
    start_http_server(port, addr=host, registry=outer)
    logger.info("metrics at http://%s:%d/metrics", host, port)


def _resource(service: str) -> Resource:
    """What all that a process exports is of."""
    return Resource.create(
        {
            "service.name": service,
            "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
    )
