"""The state of the services behind a gateway."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc

from maskmesh import wire
from maskmesh.errors import MaskmeshError
from maskmesh.status import ServiceKind, ServiceStatus


async def statuses_of(
    kind: ServiceKind, addresses: Sequence[str], status_of: Callable[[str], Awaitable[Any]]
) -> list[ServiceStatus]:
    """The state of the services at some addresses, which are asked at once.

    ``status_of`` calls one of them and returns its message.  As the clock offset counts the difference to the
    middle of the call.  Source: RFC 5905, section 8.
    """

    async def ask(address: str) -> ServiceStatus:
        sent_ns = time.time_ns()
        try:
            message = await status_of(address)
        except (MaskmeshError, grpc.RpcError) as error:
            reason = str(error) if isinstance(error, MaskmeshError) else "it does not answer"
            return ServiceStatus(kind=kind, address=address, error=reason)
        received_ns = time.time_ns()
        status = wire.service_status_from_proto(message)
        return replace(
            status,
            address=address,
            response_seconds=(received_ns - sent_ns) / 1e9,
            clock_offset_seconds=(status.unix_nanos - (sent_ns + received_ns) / 2) / 1e9,
        )

    return list(await asyncio.gather(*(ask(address) for address in sorted(addresses))))
