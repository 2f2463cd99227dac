"""Settings of services: the only place where the environment is read.

A service's settings are flags of its command and environment variables of the same names, for example
``--cache-bytes`` and ``MASKMESH_ENCODER_CACHE_BYTES``.  All that is wrong is reported at once.
"""

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

S = TypeVar("S", bound=BaseSettings)

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
    reflection: bool = False
    """Serve gRPC reflection, for development."""
    max_message_bytes: int = Field(64 * 2**20, ge=2**20)
    """Largest message in bytes."""
    drain_seconds: float = Field(5.0, ge=0)
    """How long running calls may take to finish after SIGTERM."""
    log_level: str = "INFO"
    """Least level of messages in the log."""


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
    threads: int = Field(0, ge=0)
    """Threads of one operation on a CPU; 0 leaves it to torch."""


def load(settings: type[S], arguments: list[str] | None = None) -> S:
    """Read settings from flags and environment; prints what is wrong and exits with 2."""
    try:
        return CliApp.run(settings, cli_args=sys.argv[1:] if arguments is None else arguments)
    except (ValidationError, SettingsError) as error:
        sys.exit(f"bad settings: {error}")
