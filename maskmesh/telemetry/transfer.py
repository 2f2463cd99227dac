"""Time on the wire: the ``transfer`` stages between a sender and a handler."""

from maskmesh.telemetry.names import DIRECTION, TRANSFER
from maskmesh.telemetry.stages import StageRecord


def transfer_stages(sender_ns: tuple[int, int], handler_ns: tuple[int, int]) -> list[StageRecord]:
    """The intervals in which the request and the response were on their way.

    ``sender_ns`` is when the sender sent the request and received the response, ``handler_ns`` when the
    handler received the request and sent the response, in nanoseconds since the epoch of each host.  Where
    the clocks of the two hosts disagree, the handler's interval is centred in the sender's.
    """
    start, end = sender_ns
    received, sent = handler_ns
    if received < start or sent > end:
        slack = max(0, (end - start) - (sent - received))
        received, sent = start + slack // 2, end - slack // 2
    return [
        StageRecord(TRANSFER, start, received, {DIRECTION: "request"}),
        StageRecord(TRANSFER, sent, end, {DIRECTION: "response"}),
    ]
