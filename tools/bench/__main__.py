"""Time the mesh, its stages in one process, and transformers in alternating rounds.

    python -m tools.bench

Nothing else may run on the machine.  The model is sam2.1-tiny at 1024 x 1024 with random weights (a fixed
seed), and the frames are those of the sample clip: the cost does not depend on weights and frames.
"""

import asyncio
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
import transformers
from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from maskmesh import ModelInfo
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.scheduling.malloc import retain_freed_memory
from maskmesh.scheduling.process_usage import processor
from tools.bench.clicks import run_clicks
from tools.bench.contenders import Click, Contender, Logits, MeshContender, ProcessContender
from tools.bench.figures import Run, ratios
from tools.bench.handoff import run_handoff
from tools.bench.machine import GFLOP_PER_FRAME, matrix_rate
from tools.bench.micro import run_first_request, run_live, run_propagation
from tools.bench.plot import draw
from tools.bench.stages_tracker import StagesTracker
from tools.bench.transformers_names import to_checkpoint
from tools.bench.transformers_tracker import TransformersTracker
from tools.bench.weights import random_model
from tools.make_sample import CLICKS

VIDEO = Path(__file__).parents[1] / "sample" / "clip.mp4"
MODEL = "sam2.1-tiny"

# After this number of frames, a frame has seven memories, and all tensor shapes have occurred.
WARM_UP_FRAMES = 16

DTYPES = ("float32", "bfloat16")

console = Console(highlight=False, width=100)


@click.command(context_settings={"show_default": True})
@click.option("--turns", default=3, help="Rounds of each contender.")
@click.option("--frames", default=9, help="Frames of a round.")
@click.option("--objects", type=click.Choice(["1", "4"]), multiple=True, default=("1", "4"))
@click.option("--transformers/--no-transformers", "peers", default=True, help="Whether to time transformers.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=Path("bench.json"))
@click.option("--plot", type=click.Path(path_type=Path), default=Path("bench.png"))
def main(
    *, turns: int, frames: int, objects: tuple[str, ...], peers: bool, json_path: Path, plot: Path
) -> None:
    """Time the mesh, its stages in one process, and transformers."""
    retain_freed_memory()  # this process fetches embeddings like a tracker
    asyncio.run(_main(turns, frames, [int(o) for o in objects], peers, json_path, plot))


async def _main(
    turns: int, frames: int, objects: Sequence[int], peers: bool, json_path: Path, plot: Path
) -> None:
    rates = _rates()
    threads = torch.get_num_threads()
    console.print(f"{processor()}; torch {torch.__version__}")
    console.print(
        f"transformers {transformers.__version__}: Sam2VideoModel, sdpa, inference mode, {threads} threads,"
        " the whole model in one type"
    )
    results: list[Race] = []
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "random.safetensors"
        save_file(to_checkpoint(random_model()), checkpoint)
        # Tracing is enabled, as by default, and exports to files.
        traces = {"MASKMESH_TRACE_DIR": folder, "OTEL_EXPORTER_OTLP_ENDPOINT": ""}
        options = MeshOptions(model=MODEL, checkpoint=checkpoint, environment=traces)
        for count in objects:
            console.print(f"{count} object{'s' * (count > 1)}, {turns} rounds of {frames} frames each")
            results.append(await _race(options, count, turns, frames, peers=peers))
        where = _clicks(1)[0]
        propagation, live = await run_propagation(VIDEO, where), await run_live(VIDEO, where)
        request = await run_first_request(VIDEO, where)
        handoff = await run_handoff(options)
        # Fewer clicks for the larger model: each takes at least 0.1 s.
        clicks = {
            "micro": await run_clicks(MeshOptions(), VIDEO, where, count=200, busy_frames=2000),
            MODEL: await run_clicks(options, VIDEO, where, count=100, busy_frames=100),
        }
    rates = {name: statistics.mean((rate, rates[name])) for name, rate in _rates().items()}
    runs = [run for race in results for run in race.runs]
    mesh = results[0].mesh
    result = {
        "processor": processor(),
        "threads": {"transformers": threads, "mesh, each service": mesh.threads},
        "tflops": {name: rate / 1e12 for name, rate in rates.items()},
        "mesh_dtype": mesh.dtype,
        "runs": [run.to_json() for run in runs],
        "micro": {
            "propagation": propagation.to_json(),
            "live": live.to_json(),
            "first_request": {"first_ms": request.first * 1e3, "median_ms": request.median * 1e3},
        },
        "handoff": handoff.to_json(),
        "clicks": {name: times.to_json() for name, times in clicks.items()},
        "mask_iou": {"transformers_fp32_mesh_fp32": results[0].agreement},
        "ratio": ratios(runs, rates, mesh.dtype)
        | {"first_request": request.first / request.median}
        | handoff.ratios
        | {f"click_busy_{name}": times.ratio for name, times in clicks.items()}
        | {f"click_busy_p99_{name}": times.ratio_p99 for name, times in clicks.items()},
        "overhead_ms": {
            "micro": propagation.beyond * 1e3,
            "micro_live": live.beyond * 1e3,
            "encode_hit": handoff.encode_hit * 1e3,
        },
    }
    json_path.write_text(json.dumps(result, indent=2) + "\n")
    draw(runs, GFLOP_PER_FRAME * 1e9 / rates[mesh.dtype], plot)
    _print(runs, result)
    console.print(f"figures: {json_path}, {plot}")


@dataclass(frozen=True, slots=True)
class Race:
    """The results for one number of objects."""

    runs: list[Run]
    mesh: ModelInfo
    agreement: float | None
    """Mean IoU between the masks of the mesh and of transformers, both in float32."""


async def _race(options: MeshOptions, count: int, turns: int, frames: int, *, peers: bool) -> Race:
    """Track the same frames with every contender, in alternating rounds."""
    needed = WARM_UP_FRAMES + turns * (frames + 1) + 1

    def transformers_in(dtype: str) -> ProcessContender:
        return ProcessContender(f"transformers {dtype}", TransformersTracker, VIDEO, needed, dtype)

    mesh = MeshContender("mesh auto", options, VIDEO)
    contenders: list[Contender] = [mesh]
    fp32: list[Contender] = []
    if count == 1:
        fp32.append(MeshContender("mesh float32", replace(options, dtype="float32"), VIDEO))
        stages = ProcessContender("stages auto", StagesTracker, VIDEO, MODEL, options.checkpoint, "auto")
        contenders += [stages, *fp32]
    if peers:
        contenders.append(transformers_in("bfloat16"))
    if peers and count == 1:
        fp32.append(transformers_in("float32"))
        contenders.append(fp32[-1])
    clicks = _clicks(count)
    try:
        runs = []
        for contender in contenders:
            runs.append(Run(contender.name, count, await contender.begin(clicks)))
            # Fill the memory bank, and warm up all tensor shapes.
            await contender.turn(range(1, WARM_UP_FRAMES))
        for turn in range(turns):
            start = WARM_UP_FRAMES + turn * (frames + 1)
            for contender, run in zip(contenders, runs, strict=True):
                run.frames.extend(await contender.turn(range(start, start + frames + 1)))
                console.print(f"  {contender.name}: {run.median:.3f} s per frame", style="dim")
        agreement = None
        if len(fp32) == 2:
            masks = [await contender.masks(needed - 1) for contender in fp32]
            agreement = _mean_iou(*masks)
        return Race(runs, mesh.model, agreement)
    finally:
        for contender in contenders:
            await contender.close()


def _clicks(count: int) -> list[Click]:
    """Clicks on ``count`` objects: the objects of the sample clip, then the centre of the frame."""
    known = [(float(x), float(y)) for x, y in CLICKS.values()]
    return [*known, (320.0, 180.0)][:count]


def _rates() -> dict[str, float]:
    return {name: matrix_rate(getattr(torch, name)) for name in DTYPES}


def _mean_iou(ours: Sequence[Logits], theirs: Sequence[Logits]) -> float:
    ious = []
    for one, other in zip(ours, theirs, strict=True):
        union = np.logical_or(one > 0, other > 0).sum()
        ious.append(np.logical_and(one > 0, other > 0).sum() / union if union else 1.0)
    return float(np.mean(ious))


def _print(runs: Sequence[Run], result: dict[str, Any]) -> None:
    table = Table(title="Seconds per tracked frame", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("contender", "objects", "median", "p95", "first click"):
        table.add_column(name, justify="left" if name == "contender" else "right")
    for run in runs:
        row = run.to_json()
        seconds = (row["frame_seconds"], row["frame_seconds_p95"], row["first_click_seconds"])
        table.add_row(run.contender, str(run.objects), *(f"{value:.3f}" for value in seconds))
    console.print(table)
    shared = f"up to {result['threads']['mesh, each service']}, fewer while both compute"
    console.print(f"threads per service: {shared}; of transformers: {result['threads']['transformers']}")
    rates = ", ".join(f"{name} {rate:.2f}" for name, rate in result["tflops"].items())
    console.print(f"matrix products, TFLOP/s: {rates}; the mesh chose {result['mesh_dtype']}")
    for name, ratio in result["ratio"].items():
        console.print(f"  ratio.{name:32} {ratio:5.2f}")
    for name, mode in (("micro", "propagation"), ("micro_live", "live")):
        frame = result["micro"][mode]["frame_ms"]
        console.print(f"  overhead_ms.{name:26} {result['overhead_ms'][name]:5.2f}   of {frame:.1f}/frame")


if __name__ == "__main__":
    main()
