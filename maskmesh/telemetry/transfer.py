"""Time on the wire: the ``transfer`` stages between a sender and a handler."""

from maskmesh.telemetry.clocks import note_exchange
from maskmesh.telemetry.names import DIRECTION, TRANSFER
from maskmesh.telemetry.stages import StageRecord


def transfer_stages(
    host: str, sender_ns: tuple[int, int], handler_ns: tuple[int, int], offset_ns: int = 0
) -> list[StageRecord]:
    """The intervals in which the request and the response were on their way.

    ``sender_ns`` is when the sender sent the request and received the response, ``handler_ns`` when the
    handler on ``host`` received the request and sent the response, in nanoseconds since the epoch by the
    clock of each host.  ``offset_ns`` is what the handler has subtracted from the times of its spans.
    """
    start, end = sender_ns
    received, sent = (min(max(time - offset_ns, start), end) for time in handler_ns)
    note_exchange(host, sender_ns, handler_ns)
    return [
        StageRecord(TRANSFER, start, received, {DIRECTION: "request"}),
        StageRecord(TRANSFER, sent, end, {DIRECTION: "response"}),
    ]
