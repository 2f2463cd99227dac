"""Connections between services, and from clients."""

import grpc

from maskmesh.interceptors import CLIENT_INTERCEPTORS


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options that both ends of a connection need."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


def open_channel(address: str, *, max_message_bytes: int) -> grpc.aio.Channel:
    """A traced channel to a service; connects when it is first used, and again after a loss."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            *channel_options(max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
        interceptors=[interceptor() for interceptor in CLIENT_INTERCEPTORS],
    )
