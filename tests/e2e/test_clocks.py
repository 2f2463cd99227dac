"""Traces of services whose clocks disagree."""

from itertools import pairwise
from pathlib import Path

import pytest

from maskmesh import AsyncClient
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.trace_report.critical_path import named_share
from maskmesh.trace_report.trace_files import Trace
from tests.mesh import running_mesh

# Spans of two processes have some microseconds of tolerance, because each has its own rounding.
TOLERANCE_NS = 1_000


def outside(trace: Trace) -> list[str]:
    """Spans of a frame that are not within their parents, but for those after the frame's result."""
    found = []
    for span in trace.spans.values():
        parent = trace.spans.get(span.parent_id)
        if parent is None or span.start_ns >= parent.end_ns:
            continue
        if span.start_ns < parent.start_ns - TOLERANCE_NS or span.end_ns > parent.end_ns + TOLERANCE_NS:
            found.append(f"{span.name} in {parent.name}")
    return found


def overlapping(trace: Trace) -> list[str]:
    """Spans of one parent that overlap."""
    found = []
    for parent in trace.spans:
        children = sorted(
            (s for s in trace.spans.values() if s.parent_id == parent), key=lambda s: (s.start_ns, s.end_ns)
        )
        found += [
            f"{a.name} and {b.name}" for a, b in pairwise(children) if a.end_ns // 1000 >= b.start_ns // 1000
        ]
    return found


@pytest.mark.parametrize(
    "clocks", ["", "encoder_svc=80,tracker_svc=-50", "encoder_svc=-3000,tracker_svc=4000"]
)
async def test_spans_are_in_order_whatever_the_clocks_say(
    clocks: str, tmp_path: Path, fresh_clip: Path
) -> None:
    async with (
        running_mesh(tmp_path, MeshOptions(), TEST_CLOCKS=clocks) as mesh,
        AsyncClient(mesh.endpoint) as client,
        client.session() as session,
    ):
        await session.append_video(fresh_clip)
        # The first calls and results show by how much the clocks differ; on a busy machine it takes some.
        first = await session.add_prompt(0, 1, points=[(110, 262)])
        frames = [f.trace_id async for f in session.propagate(max_frames=16)]
        click = await session.add_prompt(20, 1, points=[(110, 262)])
        ids = [*frames[6:], click.trace_id]
        traces = list((await mesh.complete_traces([first.trace_id, *ids])).values())[1:]
    assert {trace.trace_id: outside(trace) for trace in traces if outside(trace)} == {}
    assert {trace.trace_id: overlapping(trace) for trace in traces if overlapping(trace)} == {}
    assert named_share(traces) > 0.9
