from pathlib import Path

import pytest

from encoder_svc.config import EncoderSettings
from gateway.config import GatewaySettings
from maskmesh.config import TelemetrySettings, load


def test_flags_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMESH_ENCODER_CACHE_BYTES", "2000000")
    monkeypatch.setenv("MASKMESH_ENCODER_MODEL", "test")
    settings = load(EncoderSettings, ["--cache-bytes", "3000000"])
    assert (settings.cache_bytes, settings.model) == (3_000_000, "test")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SystemExit) as caught:
        load(GatewaySettings, ["--port", "x", "--window", "1"])
    assert "port" in str(caught.value)
    assert "window" in str(caught.value)


def test_where_spans_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKMESH_TRACE_DIR", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    settings = load(TelemetrySettings, [])
    assert settings.otlp_endpoint == "http://collector:4317"
    assert settings.trace_path == Path("maskmesh-traces")
    monkeypatch.setenv("MASKMESH_TRACE_DIR", "")
    assert load(TelemetrySettings, []).trace_path is None
