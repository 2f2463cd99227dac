"""Every diagnosis from the figures that call for it, and none from healthy ones."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from maskmesh.cli.doctor import machine
from maskmesh.cli.doctor.diagnosis import diagnose
from maskmesh.cli.doctor.finding import Finding
from maskmesh.cli.doctor.machine import machine_findings, variable_findings
from maskmesh.cli.doctor.measurement import Measurement
from maskmesh.cli.doctor.mesh import mesh_findings
from maskmesh.status import MeshStatus, ProcessUsage, ServiceStatus, SessionCounts
from maskmesh.types import ModelInfo

MODEL = ModelInfo(
    model_id="m/1",
    name="m",
    image_size=256,
    trained=True,
    parameters=1,
    device="cpu",
    dtype="float32",
    threads=1,
)
USAGE = ProcessUsage(
    resident_bytes=2**28,
    peak_resident_bytes=2**28,
    cpu_seconds=1.0,
    uptime_seconds=10.0,
    granted_cores=2,
    visible_cores=2,
    memory_limit_bytes=2**32,
    cpu_name="cpu",
)
GATEWAY = ServiceStatus(kind="gateway", version="1", host="a", usage=USAGE)
ENCODER = ServiceStatus(kind="encoder", address="e:1", version="1", host="a", model=MODEL, usage=USAGE)
TRACKER = ServiceStatus(
    kind="tracker",
    address="t:1",
    version="1",
    host="a",
    model=MODEL,
    usage=USAGE,
    sessions=SessionCounts(open=1, propagating=0, limit=64),
)
MESH = MeshStatus([GATEWAY, ENCODER, TRACKER])

HEALTHY = Measurement(
    first_click=0.06,
    click_again=0.02,
    first_frame=0.03,
    frame=0.03,
    stages={"decode_image": 0.001, "image_encoder": 0.02, "fetch_embedding": 0.001, "memory_attention": 0.01},
    late_click=0.03,
    late_click_encoded=False,
    evictions=0,
    busy_cores={"gateway": 0.2, "encoder e:1": 0.6, "tracker t:1": 0.7},
)


def of_level(findings: list[Finding], *levels: str) -> list[str]:
    return [finding.subject for finding in findings if finding.level in levels]


def test_a_healthy_mesh_has_nothing_to_do() -> None:
    findings = [*mesh_findings(MESH), *diagnose(HEALTHY, MESH)]
    assert of_level(findings, "note", "warning", "problem") == []


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"first_frame": 1.0}, "cold start"),
        ({"first_click": 2.0}, "cold start"),
        ({"stages": {"decode_image": 0.02}}, "reader too slow"),
        ({"stages": {"fetch_embedding": 0.01}}, "transfer dominates"),
        ({"busy_cores": {"encoder e:1": 0.95, "tracker t:1": 0.5}}, "encoder is the bottleneck"),
        ({"busy_cores": {"encoder e:1": 0.5, "tracker t:1": 0.95}}, "tracker is the bottleneck"),
        ({"busy_cores": {"encoder e:1": 0.1, "tracker t:1": 0.2}}, "encoder starved"),
        ({"busy_cores": {"encoder e:1": 0.1, "tracker t:1": 0.2}}, "device idle"),
        ({"evictions": 5}, "cache thrashing"),
        ({"late_click_encoded": True}, "cache thrashing"),
    ],
)
def test_diagnoses_of_a_run(change: Mapping[str, object], subject: str) -> None:
    found = list(diagnose(replace(HEALTHY, **change), MESH))  # type: ignore[arg-type]
    [finding] = [f for f in found if f.subject == subject]
    assert finding.advice


@pytest.mark.parametrize(
    ("services", "level", "subject"),
    [
        ([GATEWAY, TRACKER], "problem", "encoder"),
        (
            [GATEWAY, ENCODER, ServiceStatus(kind="tracker", address="t:1", error="gone")],
            "problem",
            "tracker t:1",
        ),
        ([GATEWAY, ENCODER, replace(TRACKER, version="2")], "warning", "versions"),
        ([GATEWAY, ENCODER, replace(TRACKER, model=replace(MODEL, model_id="m/2"))], "problem", "models"),
        ([GATEWAY, ENCODER, replace(TRACKER, clock_offset_seconds=-3.0)], "warning", "tracker t:1"),
        ([GATEWAY, ENCODER, replace(TRACKER, draining=True)], "warning", "tracker t:1"),
        (
            [GATEWAY, ENCODER, replace(TRACKER, sessions=SessionCounts(open=62, propagating=1, limit=64))],
            "warning",
            "tracker t:1",
        ),
        (
            [GATEWAY, replace(ENCODER, usage=replace(USAGE, resident_bytes=2**32 - 1)), TRACKER],
            "warning",
            "encoder e:1",
        ),
        ([GATEWAY, ENCODER, replace(TRACKER, model=replace(MODEL, threads=8))], "warning", "threads"),
    ],
)
def test_findings_of_services(services: list[ServiceStatus], level: str, subject: str) -> None:
    assert subject in of_level(list(mesh_findings(MeshStatus(services))), level)


def test_a_slow_answer_does_not_prove_skew() -> None:
    slow = replace(TRACKER, response_seconds=1.0, clock_offset_seconds=0.3)
    assert of_level(list(mesh_findings(MeshStatus([GATEWAY, ENCODER, slow]))), "warning") == []


@pytest.mark.parametrize(
    ("variables", "subject"),
    [
        ({"https_proxy": "http://user:secret@proxy:3128"}, "proxy"),
        ({"OMP_NUM_THREADS": "1"}, "threads"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "device"),
        ({"OTEL_SDK_DISABLED": "true"}, "traces"),
        ({"GRPC_TRACE": "all"}, "gRPC"),
        ({"LD_PRELOAD": "/lib/libjemalloc.so"}, "allocator"),
    ],
)
def test_variables_that_bite(variables: Mapping[str, str], subject: str) -> None:
    assert subject in of_level(list(variable_findings(variables)), "warning", "note")


def test_proxies_that_grpc_does_not_use_are_no_warning() -> None:
    for variables in (
        {"HTTPS_PROXY": "http://proxy:3128"},
        {"ALL_PROXY": "http://proxy:3128"},
        {"https_proxy": "http://proxy:3128", "no_grpc_proxy": "gateway"},
    ):
        assert of_level(list(variable_findings(variables)), "warning") == []


def test_more_threads_than_cores_have_no_effect() -> None:
    assert of_level(list(variable_findings({"OMP_NUM_THREADS": "64"})), "warning") == []


def test_many_small_services_fill_the_cores() -> None:
    busy = {"gateway": 0.5, "encoder e:1": 0.7, "tracker t:1": 0.6}
    mesh = MeshStatus([GATEWAY, replace(ENCODER, model=replace(MODEL, threads=1)), TRACKER])
    found = of_level(list(diagnose(replace(HEALTHY, busy_cores=busy), mesh)), "note", "warning")
    assert found == ["the cores are the bottleneck"]


def test_without_hosts_nothing_is_said_about_cores() -> None:
    """A key that is not an operator's does not see which services share a machine."""
    services = [replace(s, host="") for s in (GATEWAY, ENCODER, TRACKER, TRACKER)]
    many = [replace(s, model=s.model and replace(s.model, threads=4)) for s in services]
    assert of_level(list(mesh_findings(MeshStatus(many))), "warning", "problem") == []
    busy = {"gateway": 0.5, "encoder e:1": 0.7, "tracker t:1": 0.6}
    assert not of_level(list(diagnose(replace(HEALTHY, busy_cores=busy), MeshStatus(services))), "note")


def test_only_the_client_runs_here() -> None:
    subjects = {finding.subject for finding in machine_findings({}, runs_services=False)}
    assert subjects == {"versions"}


def test_secrets_are_not_shown() -> None:
    variables = {
        "https_proxy": "http://user:secret@proxy:3128",
        "MASKMESH_API_KEY": "secret",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
        "MASKMESH_SESSION_URL": "rediss://:secret@host:6379/0",
        "MASKMESH_CACHE_URL": "redis://user:secret@host/1",
        "HTTP_PROXY": "http://user:secret@proxy:3128",
    }
    found = list(variable_findings(variables))
    assert "secret" not in " ".join(finding.text + finding.advice for finding in found)


def test_a_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "instruction_sets", lambda: ["avx512f", "avx2"])
    monkeypatch.setattr(machine, "available_cores", lambda: 1)
    monkeypatch.setattr(machine, "memory_limit", lambda: 2**30)
    found = {finding.subject: finding for finding in machine_findings({}) if finding.level != "ok"}
    assert "no matrix units" in found["processor"].text
    assert "one core" in found["cores"].text
    assert "1.0 GiB are little" in found["memory"].text


def test_names_of_services_without_addresses_differ() -> None:
    hidden = [replace(service, address="") for service in (ENCODER, ENCODER, TRACKER)]
    assert MeshStatus(hidden).names() == ["encoder", "encoder 2", "tracker"]
