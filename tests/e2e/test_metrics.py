"""The Prometheus metrics of the services, and their separate health ports."""

import socket
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from maskmesh import AsyncClient
from maskmesh.cli.mesh.local_mesh import MeshOptions
from tests.mesh import Mesh, running_mesh

SERVICES = ("encoder", "tracker", "gateway")
SERVING = health_pb2.HealthCheckResponse.SERVING


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def ports() -> dict[str, dict[str, int]]:
    return {name: {"metrics": free_port(), "health": free_port()} for name in SERVICES}


@pytest.fixture(scope="module")
async def measured(
    tmp_path_factory: pytest.TempPathFactory, ports: dict[str, dict[str, int]]
) -> AsyncIterator[Mesh]:
    flags = {
        name: ["--metrics-port", str(its["metrics"]), "--health-port", str(its["health"])]
        for name, its in ports.items()
    }
    async with running_mesh(tmp_path_factory.mktemp("traces"), MeshOptions(flags=flags)) as mesh:
        yield mesh


def scrape(port: int) -> dict[str, Metric]:
    """The metric families of a service, in the OpenMetrics format, which has exemplars."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    with urllib.request.urlopen(request) as answer:
        return {family.name: family for family in text_string_to_metric_families(answer.read().decode())}


def value(families: dict[str, Metric], family: str, sample: str, **labels: str) -> float:
    """The value of the only sample with at least these labels; 0 if the metric has no such sample yet."""
    samples = families[family].samples if family in families else []
    found = [s.value for s in samples if s.name == sample and labels.items() <= s.labels.items()]
    assert len(found) <= 1, (family, labels, found)
    return found[0] if found else 0.0


async def test_metrics_count_the_work_of_a_propagation(
    measured: Mesh, ports: dict[str, dict[str, int]], fresh_clip: Path
) -> None:
    async with AsyncClient(measured.endpoint) as client, client.session() as session:
        await session.append_video(fresh_clip)
        prompted = await session.add_prompt(0, 1, points=[(110, 262)])
        await measured.complete_traces([prompted.trace_id])  # stages are counted shortly after the answer
        before = {name: scrape(its["metrics"]) for name, its in ports.items()}
        frames = [frame async for frame in session.propagate(max_frames=8)]
        traces = await measured.complete_traces(f.trace_id for f in frames)
        after = {name: scrape(its["metrics"]) for name, its in ports.items()}

    def grown(service: str, family: str, sample: str, **labels: str) -> float:
        now, then = (value(found[service], family, sample, **labels) for found in (after, before))
        return now - then

    stage = "maskmesh_stage_duration_seconds"
    assert grown("encoder", stage, f"{stage}_count", stage="image_encoder") == 7
    assert grown("tracker", stage, f"{stage}_count", stage="mask_decoder") == 7
    assert grown("encoder", stage, f"{stage}_sum", stage="image_encoder") > 0
    assert grown("tracker", "maskmesh_frames", "maskmesh_frames_total", kind="tracked") == 8
    assert grown("gateway", "maskmesh_frames", "maskmesh_frames_total", kind="delivered") == 8
    requests = "maskmesh_cache_requests"
    assert grown("encoder", requests, f"{requests}_total", outcome="miss") == 7
    assert value(after["encoder"], "maskmesh_cache_size_bytes", "maskmesh_cache_size_bytes", kind="used") > 0
    assert value(after["encoder"], "maskmesh_queue_depth", "maskmesh_queue_depth", queue="device") == 0
    for service in ("tracker", "gateway"):
        assert value(after[service], "maskmesh_sessions", "maskmesh_sessions", kind="open") == 1
    calls = "rpc_server_call_duration_seconds"
    method = "maskmesh.v1.SegmentationService/AddPrompt"
    assert value(after["gateway"], calls, f"{calls}_count", rpc_method=method) == 1
    exemplars = [
        sample.exemplar.labels["trace_id"]
        for sample in after["encoder"][stage].samples
        if sample.exemplar is not None and sample.labels.get("stage") == "image_encoder"
    ]
    assert set(exemplars) & traces.keys()


async def test_health_has_a_separate_port(measured: Mesh, ports: dict[str, dict[str, int]]) -> None:
    for its in ports.values():
        async with grpc.aio.insecure_channel(f"127.0.0.1:{its['health']}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", "live"):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
                assert answer.status == SERVING
