"""TLS: certificates from files, which are read again when they change."""

import logging
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path

import grpc

from maskmesh.reloading import FileWatch

logger = logging.getLogger(__name__)


def channel_credentials(contents: Sequence[bytes | None]) -> grpc.ChannelCredentials:
    """Credentials of a client, from the contents of :attr:`Tls.files`."""
    ca, cert, key = contents
    return grpc.ssl_channel_credentials(ca, key, cert)


def server_credentials(cert: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    """Credentials of a server.  With ``client_ca`` clients need a certificate of that authority.

    New handshakes use the files as they are then; open connections are not affected.
    Raises OSError if a file cannot be read, ValueError if its content is invalid.
    """
    files = PemFiles((client_ca, cert, key))
    lock = threading.Lock()
    configuration = _server_configuration(files.contents)

    def fetch() -> grpc.ServerCertificateConfiguration:
        # Called on gRPC's threads, before each handshake.
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
    """Authorities, a certificate and its key, each of which may be None, as they were when last
    consistent.
    """

    def __init__(self, paths: tuple[Path | None, Path | None, Path | None]) -> None:
        """Raises OSError if a file cannot be read, ValueError if its content is invalid."""
        self._paths = paths
        self._watch = FileWatch([path for path in paths if path is not None])
        self.contents = self._read()

    def have_changed(self) -> bool:
        """Read the files again if they have changed; returns whether ``contents`` are different now.

        Files that are incomplete or invalid change nothing: a certificate and its key are not replaced at
        once.
        """
        if (stamp := self._watch.poll()) is None:
            return False
        previous = self.contents
        try:
            self.contents = self._read()
        except (OSError, ValueError) as error:
            logger.warning("the certificates stay as they were: %s", error)
            return False
        self._watch.accept(stamp)
        return self.contents != previous

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
