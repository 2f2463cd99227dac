"""Connections between services, and from clients."""

import json

import grpc

from maskmesh.interceptors import CLIENT_INTERCEPTORS


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options that both ends of a connection need."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


# gRPC's own retries.  Only where every call that changes something carries an idempotency key; a stream that
# is begun twice leaves a session to its lease.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def open_channel(address: str, *, max_message_bytes: int, retries: bool = False) -> grpc.aio.Channel:
    """A traced channel to a service; connects when it is first used, and again after a loss.

    With ``retries`` a call that finds the service out of reach is made again, up to five times in a
    second or two.
    """
    options: list[tuple[str, str | int]] = [
        *channel_options(max_message_bytes),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if retries:
        options.append(("grpc.service_config", json.dumps(_RETRIES)))
    return grpc.aio.insecure_channel(
        address,
        options=options,
        interceptors=[interceptor() for interceptor in CLIENT_INTERCEPTORS],
    )
