"""Trace contexts across processes: W3C inside the mesh, the propagators of ``OTEL_PROPAGATORS`` at its
edge.
"""

import logging
from collections.abc import Mapping
from functools import cache

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from maskmesh.telemetry.clocks import extract_clocks, inject_clocks

logger = logging.getLogger(__name__)

_mesh_propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def inject(context: Context | None = None) -> dict[str, str]:
    """The W3C headers of a context (None: the current one) and the clocks' offsets, for calls inside the
    mesh.
    """
    carrier: dict[str, str] = {}
    _mesh_propagator.inject(carrier, context)
    inject_clocks(carrier, context)
    return carrier


def extract(carrier: Mapping[str, str]) -> Context:
    """The context of W3C headers, for calls inside the mesh."""
    return extract_clocks(carrier, _mesh_propagator.extract(carrier))


def inject_at_edge() -> dict[str, str]:
    """The headers of the current context, for calls from a client to a gateway."""
    carrier: dict[str, str] = {}
    _edge_propagator().inject(carrier)
    return carrier


def extract_at_edge(carrier: Mapping[str, str]) -> Context:
    """The context of a client's headers, in a gateway."""
    return _edge_propagator().extract(carrier)


def _edge_propagator() -> TextMapPropagator:
    """The propagator of the application, which may set another one at any time."""
    if not _has_valid_propagators():
        return _mesh_propagator
    from opentelemetry import propagate

    return propagate.get_global_textmap()


@cache
def _has_valid_propagators() -> bool:
    """Whether OpenTelemetry knows the propagators of the environment, which it loads on import."""
    try:
        import opentelemetry.propagate  # noqa: F401
    except Exception as error:  # ValueError, and whatever a propagator raises
        logger.warning("trace contexts are passed on in W3C form only: OTEL_PROPAGATORS: %s", error)
        return False
    return True


def trace_id(span: trace.Span) -> str:
    """The trace id as 32 hexadecimal digits, empty for a span that is not recorded."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def context_of(traceparent: str) -> Context:
    """The context of a ``traceparent`` in a message; an empty context for an empty string."""
    return extract({"traceparent": traceparent}) if traceparent else Context()


def traceparent(span: SpanContext) -> str:
    """The ``traceparent`` of a span, empty if the span is invalid."""
    return inject(trace.set_span_in_context(trace.NonRecordingSpan(span))).get("traceparent", "")


def span_context(traceparent: str) -> SpanContext:
    """The span of a ``traceparent``; an invalid one for an empty string."""
    return trace.get_current_span(context_of(traceparent)).get_span_context()


def links(*contexts: SpanContext) -> list[Link]:
    """Links to the valid ones of some spans."""
    return [Link(context) for context in contexts if context.is_valid]
