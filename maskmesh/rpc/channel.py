"""Connections between services, and from clients."""

import json
from collections.abc import Sequence
from typing import Any

import grpc

from maskmesh.rpc.reloading_channel import ReloadingChannel
from maskmesh.rpc.tls import PemFiles, Tls


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options that both ends of a connection need."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


# gRPC's own retries.  Only where every call that changes something carries an idempotency key; a stream that
# is begun twice leaves a session to its lease.  A server that is full says when to come again, or not to.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                # A server that is stopped cancels calls that it has not begun.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}


# What is larger is not sent again.  A photograph is sent again, a video is not held in memory for that.
_RETRY_BUFFER_BYTES = 16 * 2**20

# A peer that is stopped, and not dead, is noticed after both together.
_PING_MS = 1_000
_PONG_MS = 1_500

_NOTICING_HANGS = [
    ("grpc.keepalive_time_ms", _PING_MS),
    ("grpc.http2.ping_timeout_ms", _PONG_MS),
    ("grpc.keepalive_timeout_ms", _PONG_MS),
    # A peer that is stopped takes connections all the same; so long may one take to begin.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    # Also where data has not flowed for long.
    ("grpc.http2.max_pings_without_data", 0),
]

# Servers must not take pings in quick succession for an attack.
TAKING_PINGS = [
    ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
]


# Places on the ring for all addresses together: with four of them each has a share of a quarter, give or take
# a twentieth.
RING_SIZE = 4096


def open_channel(
    address: str,
    *,
    max_message_bytes: int,
    retries: bool = False,
    notices_hangs: bool = False,
    hash_by: str = "",
    serves: str = "",
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    tls: Tls | None = None,
) -> grpc.aio.Channel:
    """A channel to a service; connects when it is first used, and again after a loss.

    With ``retries`` a call that finds the service out of reach is made again, up to five times in a second or
    two, and one that finds it full as often when it says.  With ``notices_hangs`` calls to a service that is
    stopped fail within three seconds, as do those to one that has ended.  With ``hash_by`` calls go to one of
    several addresses by the hash of that header (:func:`maskmesh.config.enable_ring_hash` comes before), if
    it reports healthy for the service ``serves``.
    With ``tls`` the connection is encrypted; raises OSError or ValueError where its files are not as they
    should be.
    """
    options: list[tuple[str, str | int]] = [
        *channel_options(max_message_bytes),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    if notices_hangs:
        options += _NOTICING_HANGS
    config: dict[str, Any] = {}
    if retries:
        config |= _RETRIES
        options.append(("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES))
    if hash_by:
        ring = {"requestHashHeader": hash_by, "minRingSize": RING_SIZE, "maxRingSize": RING_SIZE}
        config["loadBalancingConfig"] = [{"ring_hash_experimental": ring}]
        config["healthCheckConfig"] = {"serviceName": serves}
    if config:
        options.append(("grpc.service_config", json.dumps(config)))
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return ReloadingChannel(
        PemFiles(tls.files),
        lambda credentials: grpc.aio.secure_channel(
            address, credentials, options=options, interceptors=interceptors
        ),
    )
