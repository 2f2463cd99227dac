import os

import pytest

from encoder_svc.config import EncoderSettings
from gateway.config import GatewaySettings
from maskmesh.config import load
from maskmesh.telemetry.config import TelemetrySettings, drop_invalid_limits, load_telemetry


def test_flags_override_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMESH_ENCODER_CACHE_BYTES", "2000000")
    monkeypatch.setenv("MASKMESH_ENCODER_MODEL", "test")
    settings = load(EncoderSettings, ["--cache-bytes", "3000000"])
    assert (settings.cache_bytes, settings.model) == (3_000_000, "test")


def test_all_invalid_settings_are_reported_together() -> None:
    with pytest.raises(SystemExit) as caught:
        load(GatewaySettings, ["--port", "x", "--window", "1"])
    assert "port" in str(caught.value)
    assert "window" in str(caught.value)


def test_otel_environment_selects_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKMESH_TRACE_DIR", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    settings = load(TelemetrySettings, [])
    assert settings.otlp_endpoint == "http://collector:4317"
    assert settings.effective_exporter == "otlp"
    assert (settings.max_queue_size, settings.schedule_delay_ms) == (65_536, 1_000)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    settings = load(TelemetrySettings, [])
    assert settings.otlp_endpoint == "http://traces:4318"
    assert settings.otlp_protocol == "http/protobuf"
    assert settings.max_queue_size == 10
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert load(TelemetrySettings, []).effective_exporter == "none"


def test_exporter_defaults_to_files_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASKMESH_TRACE_DIR", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    settings = load(TelemetrySettings, [])
    assert (settings.effective_exporter, settings.trace_dir) == ("file", "maskmesh-traces")
    monkeypatch.setenv("MASKMESH_TRACE_DIR", "")
    assert load(TelemetrySettings, []).effective_exporter == "none"


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_TRACES_EXPORTER"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    settings = load(TelemetrySettings, [])
    assert settings.effective_exporter == "otlp"
    assert settings.otlp_endpoint == "http://collector:4317"
    assert settings.otlp_protocol == "http/protobuf"


def test_a_disabled_sdk_exports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    assert load(TelemetrySettings, []).effective_exporter == "none"


def test_exporter_names_ignore_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "OTLP")
    assert load(TelemetrySettings, []).effective_exporter == "otlp"


def test_errors_name_the_flag_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMESH_GATEWAY_PORT", "tcp://10.96.0.1:50050")
    monkeypatch.setenv("MASKMESH_GATEWAY_WINDOW", "99")
    with pytest.raises(SystemExit) as caught:
        load(GatewaySettings, [])
    message = str(caught.value)
    assert "--port (MASKMESH_GATEWAY_PORT): " in message
    assert "enableServiceLinks: false" in message
    assert "--window (MASKMESH_GATEWAY_WINDOW): Input should be less than or equal to 64, got '99'" in message


INVALID = {
    "OTEL_TRACES_EXPORTER": "jaeger",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_BSP_MAX_QUEUE_SIZE": "-1",
    "OTEL_BSP_SCHEDULE_DELAY": "soon",
    "MASKMESH_TRACE_BYTES": "1",
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_variable_of_traces_is_ignored_with_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, INVALID[name])
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7")
    settings = load_telemetry()
    assert settings.max_export_batch_size == 7
    assert settings.max_queue_size == 65_536
    assert [name in message for message in caplog.messages] == [True]


def test_invalid_limits_are_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "few")
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "64")
    drop_invalid_limits()
    assert "OTEL_SPAN_LINK_COUNT_LIMIT" not in os.environ
    assert os.environ["OTEL_ATTRIBUTE_COUNT_LIMIT"] == "64"
    assert caplog.messages == ["ignored: OTEL_SPAN_LINK_COUNT_LIMIT: not a number: 'few'"]
