"""Settings of traces: the variables of OpenTelemetry, none of which may stop a service."""

import logging
import os
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from maskmesh.config import describe_errors, variables_of

logger = logging.getLogger(__name__)

DEFAULT_TRACE_DIR = "maskmesh-traces"

# Variables that OpenTelemetry reads on import, where an invalid one raises an error.
_LIMITS = tuple(
    f"OTEL_{name}_LIMIT"
    for name in (
        "ATTRIBUTE_COUNT",
        "ATTRIBUTE_VALUE_LENGTH",
        "SPAN_ATTRIBUTE_COUNT",
        "SPAN_ATTRIBUTE_VALUE_LENGTH",
        "SPAN_EVENT_COUNT",
        "SPAN_LINK_COUNT",
        "EVENT_ATTRIBUTE_COUNT",
        "LINK_ATTRIBUTE_COUNT",
    )
)


class TelemetrySettings(BaseSettings):
    """Export of traces.  The variables are OpenTelemetry's own, except for those of the local files.

    An empty variable counts as unset, as OpenTelemetry specifies, except for ``MASKMESH_TRACE_DIR``.
    """

    model_config = SettingsConfigDict(populate_by_name=True, env_ignore_empty=True)

    is_disabled: bool = Field(False, validation_alias="OTEL_SDK_DISABLED")
    """Disable tracing and metrics."""

    exporter: Literal["", "otlp", "console", "none"] = Field("", validation_alias="OTEL_TRACES_EXPORTER")
    """Exporter of spans; empty means ``otlp`` if an endpoint is set, and local files if not."""
    otlp_endpoint: str = Field(
        "",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    )
    """Address of an OTLP receiver, for example ``http://collector:4317``."""
    otlp_protocol: Literal["grpc", "http/protobuf"] = Field(
        "grpc",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"),
    )
    """Protocol of the OTLP receiver."""
    otlp_insecure: bool | None = Field(
        None,
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"),
    )
    """Connect in plain text to an endpoint without a scheme; true by default."""
    max_queue_size: int = Field(65_536, ge=1, validation_alias="OTEL_BSP_MAX_QUEUE_SIZE")
    """Largest number of spans in the export queue."""
    max_export_batch_size: int = Field(512, ge=1, validation_alias="OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    """Largest number of spans in one export."""
    schedule_delay_ms: int = Field(1_000, ge=1, validation_alias="OTEL_BSP_SCHEDULE_DELAY")
    """Milliseconds between two exports."""
    trace_dir: str = Field(
        # Empty variables are ignored, and this one has a meaning when it is empty.
        default_factory=lambda: os.environ.get("MASKMESH_TRACE_DIR", DEFAULT_TRACE_DIR),
        validation_alias="MASKMESH_TRACE_DIR",
    )
    """Folder of the local trace files; empty disables them."""
    trace_bytes: int = Field(256 * 2**20, ge=2**16, validation_alias="MASKMESH_TRACE_BYTES")
    """Largest total size in bytes of the local trace files of one process; the newest spans are kept."""

    @field_validator("exporter", "otlp_protocol", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def effective_exporter(self) -> Literal["otlp", "console", "file", "none"]:
        """The exporter that the settings choose."""
        if self.is_disabled:
            return "none"
        if self.exporter:
            return self.exporter
        if self.otlp_endpoint:
            return "otlp"
        return "file" if self.trace_dir else "none"


def load_telemetry(*, warns: bool = True) -> TelemetrySettings:
    """Read the settings of traces; a variable that is invalid is ignored, and named if ``warns``."""
    level = logging.WARNING if warns else logging.DEBUG
    try:
        return TelemetrySettings()
    except (ValidationError, SettingsError) as error:
        if not isinstance(error, ValidationError):
            logger.log(level, "the variables of OpenTelemetry are ignored: %s", error)
            return TelemetrySettings.model_construct()
        invalid = {str(detail["loc"][0]) for detail in error.errors()}
        for line in describe_errors(TelemetrySettings, error):
            logger.log(level, "ignored: %s", line)
    fields = TelemetrySettings.model_fields
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields.items()
        if not invalid.isdisjoint({name, *variables_of(TelemetrySettings, name)})
    }
    return TelemetrySettings(**defaults)


def drop_invalid_limits() -> None:
    """Remove limits that are no numbers from the environment, with a warning."""
    for name in _LIMITS:
        value = os.environ.get(name, "").strip()
        if value and not value.isdecimal():
            logger.warning("ignored: %s: not a number: %r", name, value)
            del os.environ[name]
