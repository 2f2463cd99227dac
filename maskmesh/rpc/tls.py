"""Certificates from files, which are read again when they have changed."""

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

logger = logging.getLogger(__name__)

# So often is looked whether files have changed.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How a caller makes sure of a service, and the service of the caller.  Files are PEM."""

    ca: Path | None = None
    """Certificates of the authorities that are trusted; None means those of gRPC itself."""
    cert: Path | None = None
    """The caller's own certificate and those between it and its authority, for services that ask for one."""
    key: Path | None = None
    """The private key of ``cert``."""
    server_name: str = ""
    """A name that the service's certificate must have, by default the host that is called."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("a certificate and its key come together")

    @property
    def files(self) -> tuple[Path | None, Path | None, Path | None]:
        """``ca``, ``cert`` and ``key``."""
        return self.ca, self.cert, self.key


def channel_credentials(contents: Sequence[bytes | None]) -> grpc.ChannelCredentials:
    """For callers; ``contents`` are those of the files of :class:`Tls`, in their order."""
    ca, cert, key = contents
    return grpc.ssl_channel_credentials(ca, key, cert)


def server_credentials(cert: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """For services.  With ``client_ca`` callers need a certificate of that authority.

    Connections that are there keep what they began with.  Raises OSError where a file cannot be read,
    ValueError where it is not what it should be.
    """
    files = PemFiles((client_ca, cert, key))
    lock = threading.Lock()

    configuration = _server_configuration(files.contents)

    def fetch() -> grpc.ServerCertificateConfiguration:
        # On gRPC's own threads, before each handshake.
        nonlocal configuration
        with lock:
            if files.have_changed():
                configuration = _server_configuration(files.contents)
            return configuration

    return grpc.dynamic_ssl_server_credentials(
        configuration, fetch, require_client_authentication=client_ca is not None
    )


def _server_configuration(contents: Sequence[bytes | None]) -> grpc.ServerCertificateConfiguration:
    client_ca, cert, key = contents
    assert cert is not None
    assert key is not None
    return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)


class PemFiles:
    """Authorities, a certificate and its key, each of which may be missing, as they were when last whole."""

    def __init__(self, paths: tuple[Path | None, Path | None, Path | None]) -> None:
        """Raises OSError where a file cannot be read, ValueError where it is not what it should be."""
        self._paths = paths
        self._seen = self._stamp()
        self._looked = time.monotonic()
        self.contents = self._read()

    def have_changed(self) -> bool:
        """Whether ``contents`` are others than before.

        Files that are being written, or wrong, change nothing: a certificate is there before its key, or
        after it.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        with contextlib.suppress(OSError):
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            before = self.contents
            try:
                self.contents = self._read()
            except ValueError as error:
                logger.warning("certificates stay as they were: %s", error)
                return False
            self._seen = stamp
            return self.contents != before
        return False

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        found = [path.stat() for path in self._paths if path is not None]
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in found)

    def _read(self) -> tuple[bytes | None, ...]:
        ca, cert, key = self._paths
        contents = tuple(None if path is None else path.read_bytes() for path in self._paths)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if cert is not None:
                context.load_cert_chain(cert, key)
            if ca is not None:
                context.load_verify_locations(ca)
        except ssl.SSLError as error:
            names = ", ".join(str(path) for path in self._paths if path is not None)
            raise ValueError(f"{names}: {error}") from error
        return contents
