"""Channels: of clients to gateways, and between services."""

import json
from typing import Any

import grpc

from maskmesh.rpc.reloading_channel import ReloadingChannel
from maskmesh.rpc.tls import PemFiles
from maskmesh.types import Tls


def message_size_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options that both ends of a connection need."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]


# gRPC's own retries.  Only for clients whose changing calls all carry an idempotency key; a stream that is
# begun twice leaves a session to its lease.  A server that is full sends the delay in the trailing metadata.
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

# Larger messages are not retried: a photograph is, a video is not held in memory for it.
_RETRY_BUFFER_BYTES = 16 * 2**20

# Seconds without a byte from a peer, after which it counts as stopped: inside a mesh, and for clients, whose
# line may be slow.
MESH_SILENCE_SECONDS = 1.5
CLIENT_SILENCE_SECONDS = 4.0

# How long a client waits for the answer to a ping: on a slow line it waits behind the data of an upload.
CLIENT_PING_SECONDS = 20.0

_PING_MS = 1_000

# What may be in flight to a client for each stream.
_CLIENT_WINDOW_BYTES = 4 * 2**20


def _hang_detection(seconds: float) -> list[tuple[str, int]]:
    """Options by which calls to a stopped process fail ``seconds`` after a ping that is not answered."""
    options = [
        ("grpc.keepalive_time_ms", _PING_MS),
        ("grpc.keepalive_timeout_ms", round(seconds * 1000)),
        # The kernel accepts connections for a stopped process; this bounds the handshake on them.
        ("grpc.min_reconnect_backoff_ms", 1_000),
        # Ping also while no data flows.
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if seconds <= MESH_SILENCE_SECONDS:
        # The pings by which gRPC estimates the bandwidth count as well.
        return [*options, ("grpc.http2.ping_timeout_ms", round(seconds * 1000))]
    # The keepalive tolerates a slow line, since any byte from the peer shows that it runs.  It does not count
    # while gRPC estimates the bandwidth, by which it sets the window for downloads, nor (in gRPC 1.85) while
    # no data waits to be sent: then the answer to a ping is awaited for a minute by default.
    return [
        *options,
        ("grpc.http2.ping_timeout_ms", round(CLIENT_PING_SECONDS * 1000)),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _CLIENT_WINDOW_BYTES),
    ]


# Options of servers, which must not take these pings for an attack.
SERVER_KEEPALIVE_OPTIONS = [
    ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
]

# Points on the ring of all addresses together: each of four addresses has a quarter of it, give or take a
# twentieth.
RING_SIZE = 4096


def open_channel(
    address: str,
    *,
    max_message_bytes: int,
    retries: bool = False,
    max_silence: float = 0.0,
    uses_proxy: bool = False,
    hash_header: str = "",
    health_service: str = "",
    tls: Tls | None = None,
) -> grpc.aio.Channel:
    """A channel to a service; it connects on first use, and again after a loss.

    With ``retries`` gRPC retries calls that find the service unreachable, up to five times within two
    seconds, and calls that find it full, after the delay that it sends.  With ``max_silence``
    calls to a process that was stopped fail about a second after so many seconds without a byte from it, like
    those to one that has ended; 0 means never.  Above ``MESH_SILENCE_SECONDS`` this takes
    ``CLIENT_PING_SECONDS`` where no data waits to be sent.  With
    ``hash_header`` the hash of that header chooses one of several addresses by ring hash (call
    :func:`maskmesh.config.enable_ring_hash` before), among those that report healthy for ``health_service``.
    With ``uses_proxy`` the proxy of the variables ``grpc_proxy``, ``https_proxy`` and ``http_proxy`` is used.
    With ``tls`` the connection is encrypted. Raises OSError or ValueError for certificate files that cannot
    be used.
    """
    options: list[tuple[str, str | int]] = [
        *message_size_options(max_message_bytes),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Proxies of the environment are for the outside, not for the services of a mesh.
        ("grpc.enable_http_proxy", int(uses_proxy)),
    ]
    if max_silence:
        options += _hang_detection(max_silence)
    config: dict[str, Any] = {}
    if retries:
        config |= _RETRIES
        options.append(("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES))
    if hash_header:
        ring = {"requestHashHeader": hash_header, "minRingSize": RING_SIZE, "maxRingSize": RING_SIZE}
        config["loadBalancingConfig"] = [{"ring_hash_experimental": ring}]
        config["healthCheckConfig"] = {"serviceName": health_service}
    if config:
        options.append(("grpc.service_config", json.dumps(config)))
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return ReloadingChannel(
        PemFiles(tls.files),
        lambda credentials: grpc.aio.secure_channel(address, credentials, options=options),
    )
