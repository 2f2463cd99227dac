"""At which load the mesh is faster than one process, and what the split costs below it.

    python -m tools.break_even

Tracks one object with the embedded model: by all stages in one process, one session after the other, and by
a mesh with several sessions at once, as `maskmesh bench` does.  The one process is faster where its frames a
second exceed those of the mesh.  Nothing else may run on the machine.
"""

import asyncio
import statistics
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from maskmesh import AsyncClient
from maskmesh.cli.bench.sessions import BenchOptions, measure_throughput
from maskmesh.cli.mesh.local_mesh import LocalMesh, MeshOptions
from tools.bench.contenders import ProcessContender
from tools.bench.stages_tracker import StagesTracker
from tools.make_sample import make_clip

FRAMES = 48
WARM_UP_FRAMES = 16
SESSIONS = (1, 2, 4, 8)
CLICK = (110.0, 262.0)


async def one_process(folder: Path, model: str, checkpoint: Path | None) -> float:
    """Frames a second of one session whose stages run in one process; frames are decoded before."""
    clip = folder / "clip.mp4"
    make_clip(clip, WARM_UP_FRAMES + FRAMES, seed=1)
    process = ProcessContender("one process", StagesTracker, clip, model, checkpoint, "auto")
    try:
        await process.begin([CLICK])
        await process.turn(range(1, WARM_UP_FRAMES))
        return 1 / statistics.median(await process.turn(range(WARM_UP_FRAMES, WARM_UP_FRAMES + FRAMES)))
    finally:
        await process.close()


async def compare(model: str, checkpoint: Path | None) -> None:
    """Measure both and print the table."""
    with tempfile.TemporaryDirectory() as name:
        alone = await one_process(Path(name), model, checkpoint)
    table = Table(title=f"{model}: frames a second in total", title_justify="left")
    for column in ("sessions", "one process", "mesh", "mesh / one process"):
        table.add_column(column, justify="right")
    async with (
        LocalMesh(MeshOptions(model=model, checkpoint=checkpoint)) as mesh,
        AsyncClient(mesh.endpoint) as client,
    ):
        for count in SESSIONS:
            rate = await measure_throughput(client, BenchOptions(FRAMES, 1, SESSIONS), count)
            table.add_row(str(count), f"{alone:.1f}", f"{rate:.1f}", f"{rate / alone:.2f}")
    Console(highlight=False).print(table)


@click.command()
@click.option("--model", default="micro", show_default=True)
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path))
def main(model: str, checkpoint: Path | None) -> None:
    """Compare one process with a mesh."""
    asyncio.run(compare(model, checkpoint))


if __name__ == "__main__":
    main()
