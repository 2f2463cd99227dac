"""Exemplars for Prometheus: OpenTelemetry's reader drops them, so this one adds them to its output."""

import bisect
from collections.abc import Iterator
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import HistogramDataPoint, MetricsData
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar


class _Series(NamedTuple):
    """One series of a histogram, by its labels in Prometheus."""

    name: str
    labels: frozenset[tuple[str, str]]


class ExemplarReader(PrometheusMetricReader):
    """OpenTelemetry's reader, which also keeps the newest exemplar of each bucket."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry=registry, scope_info_enabled=False)
        self._exemplars: dict[_Series, dict[str, Exemplar]] = {}  # by the upper bound of the bucket

    def exemplars(self, family: str, labels: frozenset[tuple[str, str]]) -> dict[str, Exemplar]:
        """The exemplars of a series by the upper bound of the bucket; ``family`` may end in a unit."""
        name = family.removesuffix("_seconds")
        return self._exemplars.get(_Series(name, labels), {})

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **options: Any
    ) -> None:
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        if isinstance(point, HistogramDataPoint) and point.exemplars:
                            self._store(metric.name, point)
        super()._receive_metrics(metrics_data, timeout_millis, **options)

    def _store(self, name: str, point: HistogramDataPoint) -> None:
        labels = frozenset((_prometheus_name(k), str(v)) for k, v in (point.attributes or {}).items())
        series = self._exemplars.setdefault(_Series(_prometheus_name(name), labels), {})
        for exemplar in point.exemplars:
            if exemplar.trace_id is None or exemplar.span_id is None:
                continue
            bucket = bisect.bisect_left(point.explicit_bounds, exemplar.value)
            bound = str(point.explicit_bounds[bucket]) if bucket < len(point.explicit_bounds) else "+Inf"
            ids = {
                "trace_id": trace.format_trace_id(exemplar.trace_id),
                "span_id": trace.format_span_id(exemplar.span_id),
            }
            series[bound] = Exemplar(ids, exemplar.value, exemplar.time_unix_nano / 1e9)


class ExemplarCollector(Collector):
    """The metrics of a reader, each bucket with its exemplar."""

    def __init__(self, registry: CollectorRegistry, reader: ExemplarReader) -> None:
        self._registry = registry
        self._reader = reader

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.type == "histogram":
                family.samples = [self._with_exemplar(family.name, sample) for sample in family.samples]
            yield family

    def _with_exemplar(self, family: str, sample: Any) -> Any:
        if not sample.name.endswith("_bucket"):
            return sample
        labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le" and v)
        return sample._replace(exemplar=self._reader.exemplars(family, labels).get(sample.labels["le"]))


def _prometheus_name(name: str) -> str:
    return name.replace(".", "_")
