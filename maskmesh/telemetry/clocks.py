"""Clocks of other hosts, so that the spans of one trace are in order although clocks disagree.

A caller sees when a request left and when its response arrived, and the handler reports when it received
the one and sent the other.  No request arrives before it was sent, and no response is received before it was
sent, which bounds the difference of the two clocks (Mills, "Internet Time Synchronization", 1991).  A
difference is assumed only where the bounds exclude 0; it is then the middle between them.  Callers send the
differences with each call, and the handler subtracts its own from the times of its spans: all spans of a
trace have the time of the host where the trace began.
"""

import socket
from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.context import Context

CLOCKS_HEADER: Final = "maskmesh-clocks"

_ANY_HOST = "*"
_CONTEXT_KEY = otel_context.create_key("maskmesh-clock-offset")


class _Bounds(NamedTuple):
    """The clock of a host minus that of this host, in nanoseconds, is between these."""

    least: int
    most: int

    @property
    def offset(self) -> int:
        return 0 if self.least <= 0 <= self.most else (self.least + self.most) // 2


_bounds: dict[str, _Bounds] = {}


@cache
def this_host() -> str:
    """The name of this host, which identifies its clock."""
    return socket.gethostname()


def note_exchange(host: str, sender_ns: tuple[int, int], handler_ns: tuple[int, int]) -> None:
    """Narrow the bounds of a host by one exchange.  Where both clocks have drifted apart, begin anew.

    ``sender_ns`` is when the request was sent and the response received, by this host's clock;
    ``handler_ns`` is when ``host`` received the one and sent the other, by its own clock.
    """
    found = _Bounds(handler_ns[1] - sender_ns[1], handler_ns[0] - sender_ns[0])
    if not host or found.least > found.most:
        return  # a handler of an earlier version, or a clock that was set meanwhile
    known = _bounds.get(host, found)
    narrowed = _Bounds(max(known.least, found.least), min(known.most, found.most))
    _bounds[host] = narrowed if narrowed.least <= narrowed.most else found


def offset_of(host: str) -> int:
    """The clock of a host minus that of this host, in nanoseconds; 0 if they may agree."""
    return _bounds[host].offset if host in _bounds else 0


def offset_in(context: Context | None = None) -> int:
    """The clock of this host minus that of the host where the trace began, in nanoseconds."""
    offset = otel_context.get_value(_CONTEXT_KEY, context)
    return offset if isinstance(offset, int) else 0


def with_offset(context: Context, offset_ns: int) -> Context:
    """A context in which this host's clock has an offset."""
    return otel_context.set_value(_CONTEXT_KEY, offset_ns, context) if offset_ns else context


def inject_clocks(carrier: dict[str, str], context: Context | None = None) -> None:
    """Add the offsets of all hosts to the headers of a call, if there are any."""
    own = offset_in(context)
    offsets = {_ANY_HOST: own, **{host: own + bounds.offset for host, bounds in _bounds.items()}}
    if any(offsets.values()):
        carrier[CLOCKS_HEADER] = ",".join(f"{host}={offset}" for host, offset in offsets.items())


def extract_clocks(carrier: Mapping[str, str], context: Context) -> Context:
    """The context with this host's offset in the headers of a call."""
    offsets = dict(entry.partition("=")[::2] for entry in carrier.get(CLOCKS_HEADER, "").split(","))
    offset = offsets.get(this_host(), offsets.get(_ANY_HOST, "0"))
    try:
        return with_offset(context, int(offset))
    except ValueError:
        return context
