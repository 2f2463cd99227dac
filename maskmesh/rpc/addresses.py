"""Hosts and ports as gRPC targets; IPv6 literals have brackets there and nowhere else."""

import ipaddress
import socket
from collections.abc import Sequence

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_SCHEMES = ("dns", "ipv4", "ipv6", "unix", "unix-abstract", "xds", "vsock", "passthrough")
_LOOPBACK_NAMES = ("localhost", "ip6-localhost")


def bare_host(host: str) -> str:
    """A host without brackets."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def join_address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 literal."""
    host = bare_host(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_address(host: str, port: int) -> str:
    """The address at which other machines reach a server that listens on ``host``."""
    return join_address(socket.gethostname() if bare_host(host) in _ANY else host, port)


def local_target(host: str, ports: Sequence[int]) -> str:
    """A gRPC target for servers of this machine that listen on ``host``.  Raises OSError."""
    host = bare_host(host)
    host = _ANY.get(host, host)
    if len(ports) == 1:
        return join_address(host, ports[0])
    # Targets with several addresses have literals only.
    literal = resolve(host)
    scheme = "ipv6" if ":" in literal else "ipv4"
    return f"{scheme}:" + ",".join(join_address(literal, port) for port in ports)


def resolve(host: str) -> str:
    """The first address of a host, as a literal.  Raises OSError that names the host."""
    try:
        found = socket.getaddrinfo(bare_host(host), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OSError(f"the host {host!r} is not known: {reason}") from error
    return str(found[0][4][0])


def check_endpoint(target: str) -> None:
    """Raises ValueError if a gRPC target is neither HOST:PORT nor has a scheme that gRPC knows."""
    scheme, separator, rest = target.partition(":")
    if separator and scheme in _SCHEMES and not rest.isdecimal():
        return
    host, _, port = target.rpartition(":")
    is_bare_ipv6 = ":" in host and not host.startswith("[")
    if not host or is_bare_ipv6 or "/" in target or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"{target!r} is no endpoint: it is HOST:PORT, for example localhost:50050 or [::1]:50050, with a "
            "port up to 65535"
        )


def is_loopback(target: str) -> bool:
    """Whether all addresses of a gRPC target are of this machine."""
    target = target.lower()
    if target.startswith("unix"):
        return True
    addresses = target.rpartition("///")[2]
    for prefix in ("ipv4:", "ipv6:", "dns:"):
        addresses = addresses.removeprefix(prefix)
    return all(_is_loopback_host(address) for address in addresses.split(","))


def _is_loopback_host(address: str) -> bool:
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") > 1:  # an IPv6 literal without brackets and port
        host = address
    else:
        host = address.rpartition(":")[0] or address
    if host in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
