"""Connections between services."""

import grpc

from maskmesh.interceptors import CLIENT_INTERCEPTORS
from maskmesh.serving import channel_options


def open_channel(address: str, *, max_message_bytes: int) -> grpc.aio.Channel:
    """A traced channel to another service; connects when it is first used, and again after a loss."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            *channel_options(max_message_bytes),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
        interceptors=[interceptor() for interceptor in CLIENT_INTERCEPTORS],
    )
