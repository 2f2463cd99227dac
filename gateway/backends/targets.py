"""The addresses of a gRPC target."""

import asyncio
import socket
from collections.abc import Sequence

_DNS = "dns:///"
_ADDRESS_SCHEMES = ("ipv4:", "ipv6:")


async def resolve(target: str) -> Sequence[str]:
    """The addresses of a target.  Raises OSError if its name cannot be resolved."""
    if not target.startswith(_DNS):
        for scheme in _ADDRESS_SCHEMES:
            target = target.removeprefix(scheme)
        return target.split(",")
    host, _, port = target.removeprefix(_DNS).rpartition(":")
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    addresses = {info[4][0] for info in infos}
    return sorted(f"[{a}]:{port}" if ":" in str(a) else f"{a}:{port}" for a in addresses)
