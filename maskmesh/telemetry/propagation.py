"""Trace contexts: from and to W3C headers and ``traceparent`` strings."""

from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext


def trace_id(span: trace.Span) -> str:
    """The trace id as 32 hexadecimal digits, empty where nothing is traced."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def inject(context: Context | None = None) -> dict[str, str]:
    """The W3C headers that carry a context (None: the current one)."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    return carrier


def extract(carrier: Mapping[str, str]) -> Context:
    """The context that W3C headers carry."""
    return propagate.extract(carrier)


def context_of(traceparent: str) -> Context:
    """The context of a ``traceparent`` that came inside a message; empty means none."""
    return extract({"traceparent": traceparent}) if traceparent else Context()


def traceparent(span: SpanContext) -> str:
    """The W3C header that stands for a span, empty where there is none."""
    return inject(trace.set_span_in_context(trace.NonRecordingSpan(span))).get("traceparent", "")


def span_context(traceparent: str) -> SpanContext:
    """The span that a ``traceparent`` stands for; an invalid one for what is none."""
    return trace.get_current_span(context_of(traceparent)).get_span_context()


def links(*contexts: SpanContext) -> list[Link]:
    """Links to those of the contexts that exist."""
    return [Link(context) for context in contexts if context.is_valid]
