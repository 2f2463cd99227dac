"""Settings of services.  No other module reads the environment, but for the one of OpenTelemetry's settings.

A service's settings are flags of its command and environment variables of the same names, for example
``--cache-bytes`` and ``MASKMESH_ENCODER_CACHE_BYTES``.  All invalid settings are reported together.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Self, TypeVar

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from maskmesh.media.pictures import PixelLimit
from maskmesh.types import DTypeSetting, Tls

logger = logging.getLogger(__name__)

S = TypeVar("S", bound=BaseSettings)

# Trackers and gateways share one store, so the variable does not contain the name of a service.
SESSION_URL = AliasChoices("session_url", "MASKMESH_SESSION_URL")


def _tls_file(name: str) -> AliasChoices:
    """The flag of a TLS setting, and the variable that sets it for all services."""
    return AliasChoices(name, f"MASKMESH_{name.upper()}")


# Linux mounts an in-memory file system here; other systems do not.
DEFAULT_SHARED_MEMORY_DIR = Path("/dev/shm") if Path("/dev/shm").is_dir() else None

ENDS_WITH_STDIN = "MASKMESH_ENDS_WITH_STDIN"
"""Environment variable of a service whose standard input is a pipe that its parent holds open; its value is
a folder that is deleted when the parent has ended."""


class ServerSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(
        cli_kebab_case=True, cli_implicit_flags=True, use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(0, ge=0, le=65535)
    """Port to listen on; 0 chooses a free one."""
    port_file: Path | None = None
    """File to which the service writes its port once it listens."""
    health_port: int = Field(0, ge=0, le=65535)
    """Additional port for health checks in plain text, for probes; 0 disables it, and health checks are
    served on the service's own port only."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of the Prometheus metrics endpoint; 0 disables it."""
    tls_cert: Path | None = Field(None, validation_alias=_tls_file("tls_cert"))
    """Certificate of this service (PEM), followed by its intermediate certificates; if it is not set, the
    service listens in plain text."""
    tls_key: Path | None = Field(None, validation_alias=_tls_file("tls_key"))
    """Private key of tls_cert (PEM)."""
    tls_client_ca: Path | None = Field(None, validation_alias=_tls_file("tls_client_ca"))
    """Certificate authorities (PEM) that verify the certificates of callers; if they are not set, callers
    need no certificate."""
    tls_ca: Path | None = Field(None, validation_alias=_tls_file("tls_ca"))
    """Certificate authorities (PEM) that verify the other services; if they are set, this service calls the
    others over TLS and presents tls_cert if it has one."""
    tls_server_name: str = Field("", validation_alias=_tls_file("tls_server_name"))
    """Name that the certificates of the other services must contain, instead of the address that is
    called."""
    max_connection_age_seconds: float = Field(0.0, ge=0)
    """Age in seconds at which the server closes a connection, so that the client resolves names again and
    finds added replicas; 0 means no limit."""
    max_calls: int = Field(256, ge=1)
    """Largest number of concurrent calls; further calls are refused."""
    reflection: bool = False
    """Serve gRPC reflection, for development."""
    max_message_bytes: int = Field(256 * 2**20, ge=2**20)
    """Largest size of a gRPC message in bytes."""
    drain_seconds: float = Field(5.0, ge=0)
    """Seconds that calls in progress have to finish after SIGTERM."""
    log_level: str = "INFO"
    """Lowest level of messages that are logged."""

    @field_validator("tls_cert", "tls_key", "tls_client_ca", "tls_ca", mode="before")
    @classmethod
    def _empty_is_no_file(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _certificates_are_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be set together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert: without TLS clients present no certificates")
        return self

    @property
    def tls(self) -> Tls | None:
        """TLS of the calls to other services; None for plain text."""
        if self.tls_ca is None:
            return None
        return Tls(self.tls_ca, self.tls_cert, self.tls_key, self.tls_server_name)


class ModelSettings(ServerSettings):
    """Settings of the services with a model."""

    model: str = "sam2.1-tiny"
    """Preset of the model; encoders and trackers must use the same one."""
    checkpoint: Path | None = None
    """Checkpoint of the whole model (.pt or .safetensors); ``micro`` and untrained presets need none."""
    image_size: int | None = Field(None, ge=56, le=4096)
    """Side in pixels of the model's square input; by default the preset's."""
    device: str = "cpu"
    """Torch device."""
    dtype: DTypeSetting = "auto"
    """Type of weights and activations; auto is bfloat16 if the device computes faster in it, and float32
    if not.  Set it if encoders and trackers run on different kinds of machines, because trackers refuse
    embeddings of another type."""
    threads: int = Field(0, ge=0)
    """CPU threads of one operation; 0 chooses them by the size of the model and the services that share the
    cores."""
    shared_cores: Path | None = None
    """Folder of the lock files by which services that share cores detect one another; if it is not set, the
    service uses all cores."""
    point_model: str = "lucas-kanade"
    """Preset of the model for points: ``tapir``, or ``lucas-kanade``, which has no weights; empty for none.
    Encoders and trackers must use the same one."""
    point_checkpoint: Path | None = None
    """Checkpoint of the model for points (.pt or .safetensors)."""
    max_batch: int = Field(0, ge=0, le=64)
    """Largest batch; 0 chooses it by the device and the image size."""
    max_queue: int = Field(256, ge=1)
    """Largest number of frames of propagations and live streams that wait for the device; further ones are
    refused."""
    max_interactive_queue: int = Field(4, ge=1)
    """Largest number of interactive requests (clicks and single images) that wait for decoding or for the
    device; further ones are refused, because a person would not wait for them."""
    shared_memory_dir: Path | None = DEFAULT_SHARED_MEMORY_DIR
    """Folder in an in-memory file system through which encoders pass embeddings to trackers that can open
    it; empty means that embeddings always go through gRPC."""

    @field_validator("shared_memory_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value


# Bytes of a message that holds uncompressed pixels, besides them.
_MESSAGE_OVERHEAD = 2**16


def pixel_limit(max_pixels: int, max_message_bytes: int, prefix: str) -> PixelLimit:
    """The limit of pixels that both settings of a service allow, named after the setting that decides.

    ``prefix`` is that of the service's variables.
    """
    in_a_message = (max_message_bytes - _MESSAGE_OVERHEAD) // 3
    if in_a_message < max_pixels:
        return PixelLimit(in_a_message, f"{prefix}MAX_MESSAGE_BYTES")
    return PixelLimit(max_pixels, f"{prefix}MAX_PIXELS")


def folder_of_parent() -> str | None:
    """The value of ENDS_WITH_STDIN, which is removed, so that only this process has it."""
    return os.environ.pop(ENDS_WITH_STDIN, None)


def variables_with(prefixes: tuple[str, ...]) -> dict[str, str]:
    """The environment variables of this process whose names begin with one of the prefixes, in any case."""
    return {name: value for name, value in sorted(os.environ.items()) if name.upper().startswith(prefixes)}


def enable_ring_hash() -> None:
    """Set the environment variable that lets gRPC choose a backend by the hash of a header (gRFC A76).

    Must be called before the process opens its first channel.
    """
    os.environ.setdefault("GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY", "true")


def load(settings: type[S], arguments: list[str] | None = None) -> S:
    """Read settings from flags and environment; prints the errors and exits if they are invalid."""
    try:
        return CliApp.run(settings, cli_args=sys.argv[1:] if arguments is None else arguments)
    except ValidationError as error:
        sys.exit("\n".join(["bad settings:", *describe_errors(settings, error)]))
    except SettingsError as error:
        sys.exit(f"bad settings: {error}")


def describe_errors(settings: type[BaseSettings], error: ValidationError) -> list[str]:
    """One line for each invalid setting, with its flag and its variable."""
    lines = []
    for detail in error.errors():
        name = str(detail["loc"][0]) if detail["loc"] else ""
        fields = settings.model_fields
        field = next((f for f in fields if name == f or name in variables_of(settings, f)), name)
        if not field:
            lines.append(detail["msg"])
            continue
        source = " or ".join(variables_of(settings, field))
        if issubclass(settings, ServerSettings):
            source = f"--{field.replace('_', '-')} ({source})"
        line = f"{source}: {detail['msg']}, got {detail['input']!r}"
        if str(detail["input"]).startswith("tcp://"):
            line += (
                "; Kubernetes sets this variable for a Service of that name: set enableServiceLinks: false "
                "in the pod"
            )
        lines.append(line)
    return lines


def variables_of(settings: type[BaseSettings], field: str) -> list[str]:
    """The environment variables of a setting."""
    alias = settings.model_fields[field].validation_alias
    if alias is None:
        return [f"{settings.model_config.get('env_prefix', '')}{field}".upper()]
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(choice) for choice in choices if str(choice).isupper()]
