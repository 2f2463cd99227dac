"""The collector and the store of the manifests, as two real Jaeger processes, with a mesh before them."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

from maskmesh import AsyncClient, InvalidPrompt, telemetry
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.trace_report.critical_path import named_share
from maskmesh.trace_report.trace_files import Span, Trace, group_traces
from tests import jaeger
from tests.jaeger import TRACES, JaegerProcess
from tests.mesh import Mesh, running_mesh

pytestmark = pytest.mark.skipif(bool(jaeger.missing), reason=jaeger.missing)

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "tools" / "sample" / "clip.mp4"
GUIDE = PROJECT / "docs" / "jaeger.md"
COMPONENTS = PROJECT / "k8s" / "components"
STORE = COMPONENTS / "trace-store" / "store.yaml"
POINTS = {1: (110, 262), 2: (530, 185), 3: (330, 62)}

# The bars of the guide.
MIN_PATH_OF_FRAMES = 0.95
MIN_PATH_OF_CLICKS = 0.90

T = TypeVar("T")


@dataclass
class Pipeline:
    """A collector, the Jaeger behind it, and a Prometheus that reads the collector's metrics."""

    collector: JaegerProcess
    store: JaegerProcess

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.collector.ports[4317]}"

    async def eventually(
        self, read: Callable[[], T], is_enough: Callable[[T], bool], seconds: float = 40
    ) -> T:
        """Read until it is enough; returns what was read."""
        deadline = time.monotonic() + 40
        while True:
            found = await asyncio.to_thread(read)
            if is_enough(found):
                return found
            assert time.monotonic() < deadline, f"{found!r:.1000}\n{self.collector.log[-1500:]}"
            await asyncio.sleep(0.2)

    def search(self, **query: Any) -> list[dict[str, Any]]:
        """The traces of a search, as in the user interface."""
        query = {"service": "maskmesh-gateway", "lookback": "1h", "limit": 1000} | query
        found: list[dict[str, Any]] = self.store.api("traces", **query)
        return found


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jaeger.unpack(tmp_path_factory.mktemp("jaeger"))


def start(
    executable: Path, folder: Path, *, prometheus: str = "", keeps_files: bool = False, **settings: str
) -> Pipeline:
    """Start both roles; ``settings`` are the collector's variables.  Decisions are made after two seconds."""
    store = JaegerProcess(
        executable,
        TRACES / "jaeger-config.yaml",
        folder / "store",
        {"PROMETHEUS_URL": prometheus or "http://127.0.0.1:9", "TRACES_DIR": str(folder)},
        added=[STORE] if keeps_files else [],
    )
    config = folder / "collector.yaml"
    config.write_text(
        (TRACES / "collector-config.yaml")
        .read_text()
        .replace("decision_wait: 10s", "decision_wait: 2s")
        .replace("metrics_flush_interval: 15s", "metrics_flush_interval: 1s")
    )
    settings = {"JAEGER_ENDPOINT": f"127.0.0.1:{store.ports[4317]}"} | settings
    return Pipeline(JaegerProcess(executable, config, folder / "collector", settings), store)


@pytest.fixture(scope="module")
def pipeline(executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Both roles with the settings of the base, which keeps all traces, and Prometheus."""
    folder = tmp_path_factory.mktemp("pipeline")
    with ExitStack() as stack:
        port = jaeger.free_port()
        started = start(executable, folder, prometheus=f"http://127.0.0.1:{port}")
        stack.callback(started.store.kill)
        stack.callback(started.collector.kill)
        if shutil.which("prometheus") is not None:
            target = f"127.0.0.1:{started.collector.ports[8889]}"
            (folder / "prometheus.yml").write_text(
                json.dumps(
                    {
                        "global": {"scrape_interval": "1s"},
                        "scrape_configs": [
                            {"job_name": "collector", "static_configs": [{"targets": [target]}]}
                        ],
                    }
                )
            )
            prometheus = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(prometheus.wait, 20)
            stack.callback(prometheus.terminate)
        yield started


@pytest.fixture(scope="module")
async def traced_mesh(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("no-traces")
    async with running_mesh(folder, MeshOptions(), OTEL_EXPORTER_OTLP_ENDPOINT=pipeline.endpoint) as mesh:
        yield mesh


@dataclass(frozen=True)
class Run:
    """What one run of the sample clip left: its session, and trace ids."""

    session_id: str
    frames: list[str]
    clicks: list[str]


@pytest.fixture(scope="module")
async def run(traced_mesh: Mesh, pipeline: Pipeline) -> Run:
    """The sample clip with three objects, then a click on a frame whose embedding is cached, and an error."""
    async with AsyncClient(traced_mesh.endpoint) as client, client.session() as session:
        await session.append_video(SAMPLE)
        clicks = [
            (await session.add_prompt(0, obj_id, points=[point])).trace_id for obj_id, point in POINTS.items()
        ]
        frames = [frame.trace_id async for frame in session.propagate()]
        with pytest.raises(InvalidPrompt):
            await session.add_prompt(0, 1, points=[(5000, 5000)])
        run = Run(session.session_id, frames, clicks)
    wanted = {*run.frames, *run.clicks}
    tags = {"maskmesh.session.id": run.session_id}
    call = "maskmesh.v1.SegmentationService/PropagateVideo"
    await pipeline.eventually(lambda: pipeline.search(operation=call, tags=tags), bool)
    await pipeline.eventually(
        lambda: {t["traceID"] for t in pipeline.search()}, lambda found: wanted <= found
    )
    return run


def to_trace(found: dict[str, Any]) -> Trace:
    """A trace of Jaeger's API."""
    spans = []
    for span in found["spans"]:
        parents = [r["spanID"] for r in span["references"] if r["refType"] == "CHILD_OF"]
        start_ns = span["startTime"] * 1000
        spans.append(
            Span(
                span["traceID"],
                span["spanID"],
                parents[0] if parents else "",
                span["operationName"],
                0,
                start_ns,
                start_ns + span["duration"] * 1000,
                found["processes"][span["processID"]]["serviceName"],
                "",
                "",
                {tag["key"]: tag["value"] for tag in span["tags"]},
                [r["spanID"] for r in span["references"] if r["refType"] != "CHILD_OF"],
            )
        )
    (trace,) = group_traces(spans)
    return trace


async def test_sample_clip_is_found_and_explains_itself(pipeline: Pipeline, run: Run) -> None:
    services = pipeline.store.api("services")
    assert {"maskmesh-gateway", "maskmesh-encoder", "maskmesh-tracker"} <= set(services)
    session = {"maskmesh.session.id": run.session_id}
    frames = pipeline.search(operation="frame", tags=session)
    assert {t["traceID"] for t in frames} == set(run.frames)
    for found in frames:
        of_services = {p["serviceName"] for p in found["processes"].values()}
        assert of_services >= {"maskmesh-gateway", "maskmesh-tracker"}
    clicks = pipeline.search(operation="maskmesh.v1.SegmentationService/AddPrompt", tags=session)
    assert {t["traceID"] for t in clicks} >= set(run.clicks)
    clicks = [t for t in clicks if t["traceID"] in run.clicks]
    # The line that the user interface draws lies on stages, waits and transfers.
    assert named_share(to_trace(t) for t in frames) > MIN_PATH_OF_FRAMES
    assert named_share(to_trace(t) for t in clicks) > MIN_PATH_OF_CLICKS
    totals = to_trace(frames[5]).root.attributes
    assert totals["maskmesh.stage.memory_attention.ms"] > 0
    assert totals["maskmesh.wait.previous_frame.ms"] >= 0
    assert totals["maskmesh.stage.image_encoder.batch_size"] == 1
    assert totals.keys() >= {
        telemetry.TENANT,
        telemetry.OBJECT_COUNT,
        telemetry.CACHE_OUTCOME,
        telemetry.COLD,
    }


async def test_jaeger_warns_of_no_span(pipeline: Pipeline, run: Run) -> None:
    found = [t for service in pipeline.store.api("services") for t in pipeline.search(service=service)]
    assert len(found) > len(run.frames)
    warnings = {(s["operationName"], *s["warnings"]) for t in found for s in t["spans"] if s["warnings"]}
    assert warnings == set()


async def test_a_request_leads_to_its_frames_and_back(pipeline: Pipeline, run: Run) -> None:
    tags = {"maskmesh.session.id": run.session_id}
    (found,) = pipeline.search(operation="maskmesh.v1.SegmentationService/PropagateVideo", tags=tags)
    request = to_trace(found).root
    assert request.attributes[telemetry.FRAME_COUNT] == len(run.frames)
    assert request.attributes["maskmesh.stage.memory_attention.ms"] > 0
    slowest = request.attributes[telemetry.SLOWEST_TRACES].split(",")
    assert len(slowest) == 3
    traces = {t["traceID"]: to_trace(t) for t in pipeline.search(operation="frame", tags=tags)}
    times = sorted((trace.root.duration_ns for trace in traces.values()), reverse=True)
    assert [traces[trace_id].root.duration_ns for trace_id in slowest] == times[:3]
    propagation = {telemetry.PROPAGATION_ID: request.attributes[telemetry.PROPAGATION_ID]}
    assert len(pipeline.search(operation="frame", tags=propagation)) == len(run.frames)

    def links(trace: Trace) -> set[str]:
        return {link for span in trace.spans.values() if span.name == "track" for link in span.links}

    assert all(request.span_id in links(trace) for trace in traces.values())
    # The first frame was encoded by the first click.
    (first,) = (
        t for t in traces.values() if t.root.attributes[telemetry.CACHE_OUTCOME] == telemetry.REFERENCE
    )
    filling = to_trace(next(t for t in pipeline.search() if t["traceID"] == run.clicks[0]))
    encodes = {i for i, s in filling.spans.items() if s.name.endswith("/Encode")}
    assert encodes & links(first)


async def test_both_halves_of_a_call_follow_the_conventions(pipeline: Pipeline, run: Run) -> None:
    (found,) = (t for t in pipeline.search() if t["traceID"] == run.clicks[1])
    trace = to_trace(found)
    method = "maskmesh.internal.v1.TrackerService/AddPrompt"
    client, server = sorted((s for s in trace.spans.values() if s.name == method), key=lambda s: s.start_ns)
    for half in (client, server):
        assert half.attributes[telemetry.RPC_METHOD] == method
        assert half.attributes[telemetry.RPC_SYSTEM] == "grpc"
        assert half.attributes[telemetry.RPC_STATUS] == "OK"
    assert client.attributes[telemetry.SERVER_ADDRESS] == "127.0.0.1"
    assert client.attributes[telemetry.SERVER_PORT] > 0
    tags = {telemetry.RPC_STATUS: "INVALID_ARGUMENT"}
    (refused,) = pipeline.search(tags=tags)
    assert "error" not in to_trace(refused).root.attributes, "the fault is the caller's"


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
async def test_monitor_tab_has_latencies_by_stage(pipeline: Pipeline, run: Run) -> None:
    def latencies() -> set[str]:
        found = json.loads(
            jaeger.get(
                pipeline.store.ports[16686],
                "api/metrics/latencies",
                service="maskmesh-tracker",
                quantile="0.95",
                groupByOperation="true",
                spanKind="internal",
                lookback="300000",
                step="5000",
                ratePer="60000",
            )
        )
        return {
            label["value"]
            for metric in found.get("metrics", [])
            for label in metric["labels"]
            if label["name"] == "operation"
        }

    wanted = {"memory_attention", "mask_decoder", "queue previous_frame"}
    await pipeline.eventually(latencies, lambda found: wanted <= found)


async def test_searches_of_the_guide_find_what_it_says(
    pipeline: Pipeline, run: Run, traced_mesh: Mesh
) -> None:
    """The device is waited for when several sessions share it."""

    async def track(number: int) -> str:
        async with AsyncClient(traced_mesh.endpoint) as client, client.session() as session:
            await session.append_video(SAMPLE)
            for obj_id, point in POINTS.items():
                await session.add_prompt(0, obj_id, points=[point])
            async for _ in session.propagate(max_frames=12):
                pass
            return session.session_id

    sessions = await asyncio.gather(*(track(number) for number in range(8)))
    searches = re.findall(r"^```text\n(service=.*?)```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(searches) >= 6
    for text in searches:
        query = dict(line.split("=", 1) for line in text.split("\n") if line)
        if "tags" in query:
            query["tags"] = dict(tag.split("=", 1) for tag in query["tags"].split())
            for name, value in query["tags"].items():
                query["tags"][name] = value.replace("SESSION", run.session_id)
        if "over_100ms" in text:
            del query["tags"]["maskmesh.session.id"]  # of one of the sessions
        found = await pipeline.eventually(partial(pipeline.search, **query), bool)
        for trace in found if "tags" in query else ():
            spans = [{t["key"]: t["value"] for t in s["tags"]} for s in trace["spans"]]
            assert any(
                all(str(span.get(k)).lower() == v.lower() for k, v in query["tags"].items()) for span in spans
            )
        if "over_100ms" in text:
            waited = {to_trace(t).root.attributes[telemetry.SESSION_ID] for t in found}
            assert waited & set(sessions)


async def test_command_makes_spans_of_its_own(pipeline: Pipeline, traced_mesh: Mesh, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maskmesh.cli", "segment", str(SAMPLE), "--max-frames", "3"),
        *("--endpoint", traced_mesh.endpoint, "--point", "110,262", "-o", str(tmp_path / "overlay.mp4")),
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": pipeline.endpoint},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()

    def find() -> list[Trace]:
        return [to_trace(t) for t in pipeline.search(service="maskmesh-cli", operation="maskmesh segment")]

    (trace,) = await pipeline.eventually(find, lambda found: bool(found) and len(found[0].spans) > 20)
    steps = {s.name for s in trace.spans.values() if s.parent_id == trace.root.span_id}
    assert steps >= {"upload", "track", "maskmesh.v1.SegmentationService/AddPrompt"}
    assert "draw" in {s.name for s in trace.spans.values()}
    # What the services do for the command's calls is in the same trace.
    assert {s.service for s in trace.spans.values()} >= {
        "maskmesh-cli", "maskmesh-gateway", "maskmesh-encoder", "maskmesh-tracker",
    }  # fmt: skip


def export(endpoint: str, name: str, seconds: float = 0.01, *, error: bool = False, **tags: Any) -> str:
    """Export one span, with its attributes written as keyword arguments; returns its trace id."""
    provider = TracerProvider(resource=Resource.create({"service.name": "test"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    end = time.time_ns()
    span = provider.get_tracer("test").start_span(name, start_time=end - int(seconds * 1e9))
    span.set_attributes({key.replace("__", "."): value for key, value in tags.items()})
    if error:
        span.set_status(Status(StatusCode.ERROR, "broken"))
    span.end(end)
    provider.shutdown()
    return telemetry.trace_id(span)


@pytest.mark.parametrize(
    ("role", "added"),
    [
        ("collector", ["mtls/collector-tls.yaml"]),
        ("jaeger", ["mtls/jaeger-tls.yaml", "trace-store/store.yaml"]),
    ],
)
def test_components_add_to_a_valid_configuration(executable: Path, role: str, added: list[str]) -> None:
    files = [TRACES / f"{role}-config.yaml", *(COMPONENTS / name for name in added)]
    arguments = [f"--config={path}" for path in files]
    done = subprocess.run([executable, "validate", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_sampling_keeps_what_it_should(executable: Path, tmp_path: Path) -> None:
    pipeline = start(executable, tmp_path, TRACES_SHARE="0", TRACES_SLOW_MS="500")
    try:
        click = "maskmesh.v1.SegmentationService/AddPrompt"
        kept = {
            export(pipeline.endpoint, "frame", error=True),
            export(pipeline.endpoint, "frame", 0.8),
            export(pipeline.endpoint, "frame", maskmesh__frame__first=True),
            export(pipeline.endpoint, "frame", maskmesh__cold=True),
            export(pipeline.endpoint, click, rpc__method=click),
        }
        dropped = {
            export(pipeline.endpoint, "frame", maskmesh__frame__first=False, maskmesh__cold=False)
            for _ in range(20)
        }
        call = "maskmesh.v1.SegmentationService/GetSession"
        dropped.add(export(pipeline.endpoint, call, rpc__method=call))

        def stored() -> set[str]:
            service = pipeline.store.api("services")
            return {t["traceID"] for s in service for t in pipeline.search(service=s)}

        await pipeline.eventually(stored, lambda found: kept <= found)
        assert stored() == kept

        # The dropped ones are in the metrics nevertheless.
        def counted() -> float:
            lines = re.findall(
                r'^traces_span_metrics_calls_total\{.*span_name="frame".*\} (\d+)',
                pipeline.collector.metrics(8889),
                re.MULTILINE,
            )
            return sum(map(float, lines))

        await pipeline.eventually(counted, lambda found: found == 24)
    finally:
        pipeline.collector.kill()
        pipeline.store.kill()


async def test_nothing_is_lost_while_jaeger_is_away(executable: Path, tmp_path: Path) -> None:
    pipeline = start(executable, tmp_path, keeps_files=True)
    try:
        before = {export(pipeline.endpoint, f"before {number}") for number in range(5)}
        await pipeline.eventually(
            lambda: {t["traceID"] for t in pipeline.search(service="test")},
            lambda found: before <= found,
        )
        pipeline.store.kill()
        during = {export(pipeline.endpoint, f"during {number}") for number in range(50)}
        waiting = re.compile(r"^otelcol_exporter_queue_size\{.*jaeger.*\} (\d+)", re.MULTILINE)
        await pipeline.eventually(
            lambda: sum(map(int, waiting.findall(pipeline.collector.metrics(8888)))), lambda n: n > 0
        )
        pipeline.store.start()
        await pipeline.eventually(
            lambda: {t["traceID"] for t in pipeline.search(service="test")},
            lambda found: before | during <= found,
        )
        # The names in the alerts.
        exposed = set(re.findall(r"^(otelcol_\w+)\{", pipeline.collector.metrics(8888), re.MULTILINE))
        assert exposed >= {"otelcol_exporter_send_failed_spans", "otelcol_exporter_queue_capacity"}
        assert "otelcol_receiver_accepted_spans" in exposed
    finally:
        pipeline.collector.kill()
        pipeline.store.kill()
