"""Settings of services: the only place where the environment is read.

A service's settings are flags of its command and environment variables of the same names, for example
``--cache-bytes`` and ``MASKMESH_ENCODER_CACHE_BYTES``.  All that is wrong is reported at once.
"""

import os
import sys
from pathlib import Path
from typing import Self, TypeVar

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from maskmesh.nn.dtype import DTypeSetting
from maskmesh.rpc.tls import Tls

S = TypeVar("S", bound=BaseSettings)

# One store for all services: its variable has no service's name.
SESSION_URL = AliasChoices("session_url", "MASKMESH_SESSION_URL")


def _tls_file(name: str) -> AliasChoices:
    """Of all services as well: their machines have the files in the same places."""
    return AliasChoices(name, f"MASKMESH_{name.upper()}")


# Where Linux has a file system in memory for this; elsewhere there is none.
DEFAULT_SHARED_MEMORY_DIR = Path("/dev/shm") if Path("/dev/shm").is_dir() else None

DEFAULT_TRACE_DIR = Path("maskmesh-traces")


class TelemetrySettings(BaseSettings):
    """Where spans go."""

    model_config = SettingsConfigDict(populate_by_name=True)

    otlp_endpoint: str = Field("", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """gRPC target of an OTLP receiver; empty means the local file."""
    trace_dir: str = Field(str(DEFAULT_TRACE_DIR), validation_alias="MASKMESH_TRACE_DIR")
    """Folder of the local files; empty means none."""

    trace_bytes: int = Field(256 * 2**20, ge=2**16, validation_alias="MASKMESH_TRACE_BYTES")
    """Largest size of the local file of one process; the newest spans are kept."""

    @property
    def trace_path(self) -> Path | None:
        """``trace_dir`` as a path, or None."""
        return Path(self.trace_dir) if self.trace_dir else None


class ServerSettings(BaseSettings):
    """What every service has."""

    model_config = SettingsConfigDict(
        cli_kebab_case=True, cli_implicit_flags=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(0, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    port_file: Path | None = None
    """File that receives the port once the service listens."""
    health_port: int = Field(0, ge=0, le=65535)
    """Port for health checks in plain text, for probes; 0 means none but the service's own."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port at which Prometheus finds metrics; 0 means none."""
    tls_cert: Path | None = Field(None, validation_alias=_tls_file("tls_cert"))
    """Certificate of this service (PEM, with those between it and its authority); without one it speaks in
    plain text."""
    tls_key: Path | None = Field(None, validation_alias=_tls_file("tls_key"))
    """Private key of the certificate (PEM)."""
    tls_client_ca: Path | None = Field(None, validation_alias=_tls_file("tls_client_ca"))
    """Authorities (PEM) of the certificates that callers must show; without them callers need none."""
    tls_ca: Path | None = Field(None, validation_alias=_tls_file("tls_ca"))
    """Authorities (PEM) of the other services, which are called by TLS then, with this service's own
    certificate if it has one."""
    tls_server_name: str = Field("", validation_alias=_tls_file("tls_server_name"))
    """Name that the certificates of the other services have, in place of the addresses by which they are
    called."""
    max_connection_age_seconds: float = Field(0.0, ge=0)
    """After so long callers connect anew, and look up names again: they find replicas that were added; 0
    means never."""
    max_calls: int = Field(256, ge=1)
    """Largest number of calls that are worked on at once; others are refused."""
    reflection: bool = False
    """Serve gRPC reflection, for development."""
    max_message_bytes: int = Field(64 * 2**20, ge=2**20)
    """Largest message in bytes."""
    drain_seconds: float = Field(5.0, ge=0)
    """How long running calls may take to finish after SIGTERM."""
    log_level: str = "INFO"
    """Least level of messages in the log."""

    @field_validator("tls_cert", "tls_key", "tls_client_ca", "tls_ca", mode="before")
    @classmethod
    def _empty_is_no_file(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _certificates_are_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key come together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert: in plain text nobody shows a certificate")
        return self

    @property
    def tls(self) -> Tls | None:
        """How other services are called; None in plain text."""
        if self.tls_ca is None:
            return None
        return Tls(self.tls_ca, self.tls_cert, self.tls_key, self.tls_server_name)


class ModelSettings(ServerSettings):
    """What services with a model have besides."""

    model: str = "sam2.1-tiny"
    """Preset of the model, the same in encoder and tracker."""
    checkpoint: Path | None = None
    """Checkpoint of the whole model (.pt or .safetensors); ``micro`` and untrained presets need none."""
    image_size: int | None = Field(None, ge=64, le=4096, multiple_of=32)
    """Side of the square that the model sees, by default the preset's."""
    device: str = "cpu"
    """Torch device."""
    dtype: DTypeSetting = "auto"
    """Type of weights and activations; auto takes bfloat16 where the device computes in it.  Encoders and
    trackers on unlike machines need one that is set, because embeddings of another type are refused."""
    threads: int = Field(0, ge=0)
    """Threads of one operation on a CPU; 0 leaves it to the size of the model and to who shares the cores."""
    shared_cores: Path | None = None
    """Folder by which services on the same cores know of one another; without one the cores are this
    service's own."""
    max_batch: int = Field(0, ge=0, le=64)
    """How much is computed at once of what waits; 0 leaves it to the device and the size of images."""
    max_queue: int = Field(256, ge=1)
    """Largest amount of work that waits for the device, of frames in propagations and live streams."""
    max_interactive_queue: int = Field(4, ge=1)
    """Largest number of clicks and single images that wait for the device, decoded or not: what waits longer
    than a person does is better refused."""
    shared_memory_dir: Path | None = DEFAULT_SHARED_MEMORY_DIR
    """Folder in memory by which embeddings go from encoder to tracker where both can open it; empty means
    that they always go through gRPC."""

    @field_validator("shared_memory_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value


def enable_ring_hash() -> None:
    """Let gRPC hash calls by a header of theirs (gRFC A76), which it asks the environment for.

    Before the first channel of the process.
    """
    os.environ.setdefault("GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY", "true")


def load(settings: type[S], arguments: list[str] | None = None) -> S:
    """Read settings from flags and environment; prints what is wrong and exits with 2."""
    try:
        return CliApp.run(settings, cli_args=sys.argv[1:] if arguments is None else arguments)
    except (ValidationError, SettingsError) as error:
        sys.exit(f"bad settings: {error}")
