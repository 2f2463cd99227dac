"""Replay recorded traces into a store of traces, and measure the memory that it needs.

    python -m tools.trace_retention demo/traces --endpoint 127.0.0.1:4317 --pid 4711 --count 25000

Reads the frames of local trace files (OTLP JSON), sends them again and again with new ids, as many as are
kept in an hour, and prints the resident memory of the store's process before and after.
"""

import base64
import json
import os
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import grpc
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from maskmesh import telemetry
from maskmesh.trace_report.trace_files import group_traces, read_spans, trace_files

Request = trace_service_pb2.ExportTraceServiceRequest

TRACES_PER_CALL = 40


def read_frames(folder: Path) -> list[Request]:
    """The traces of frames, each as one request with the spans of all services."""
    roots = (trace for trace in group_traces(read_spans(folder)) if trace.root.name == telemetry.FRAME)
    frames = {trace.trace_id for trace in roots}
    parts: dict[str, dict[str, Any]] = defaultdict(dict)  # by trace and service
    for file in trace_files(folder):
        for line in file.read_text().splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        if span["traceId"] in frames:
                            part = parts[span["traceId"]].setdefault(
                                file.name,
                                {"resource": resource["resource"], "scopeSpans": [scope | {"spans": []}]},
                            )
                            part["scopeSpans"][0]["spans"].append(_with_base64(span))
    return [ParseDict({"resourceSpans": [*services.values()]}, Request()) for services in parts.values()]


def _with_base64(span: dict[str, Any]) -> dict[str, Any]:
    """A span of OTLP JSON, whose ids are hexadecimal, for protobuf's parser, which wants base64."""
    converted = dict(span)
    for name in ("traceId", "spanId", "parentSpanId"):
        if converted.get(name):
            converted[name] = base64.b64encode(bytes.fromhex(converted[name])).decode()
    if "links" in span:
        converted["links"] = [_with_base64(link) for link in span["links"]]
    return converted


def resident_mib(pid: int) -> float:
    """The resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@click.command()
@click.argument("traces", type=click.Path(exists=True, path_type=Path))
@click.option("--endpoint", required=True, help="OTLP endpoint (gRPC, plain text).")
@click.option("--pid", type=int, required=True, help="Process whose memory is measured.")
@click.option("--count", default=25_000, show_default=True, help="Traces to send.")
def main(traces: Path, endpoint: str, pid: int, count: int) -> None:
    """Replay the frames of TRACES."""
    frames = read_frames(traces)
    if not frames:
        raise click.ClickException(f"{traces} has no frames")
    num_spans = sum(
        len(resource.scope_spans[0].spans) for frame in frames for resource in frame.resource_spans
    ) / len(frames)
    before, chance, start = resident_mib(pid), random.Random(0), time.monotonic()
    with grpc.insecure_channel(endpoint) as channel:
        stub: Any = trace_service_pb2_grpc.TraceServiceStub(channel)
        for first in range(0, count, TRACES_PER_CALL):
            request = Request()
            for number in range(first, min(first + TRACES_PER_CALL, count)):
                trace_id = chance.randbytes(16)
                for resource in frames[number % len(frames)].resource_spans:
                    added = request.resource_spans.add()
                    added.CopyFrom(resource)
                    for span in added.scope_spans[0].spans:
                        span.trace_id = trace_id
            stub.Export(request, timeout=60)
    after = resident_mib(pid)
    click.echo(
        f"{count} traces of {num_spans:.0f} spans in {time.monotonic() - start:.0f} s: {before:.0f} MiB "
        f"before, {after:.0f} MiB after, {(after - before) * 1024 / count:.1f} KiB each"
    )


if __name__ == "__main__":
    main()
