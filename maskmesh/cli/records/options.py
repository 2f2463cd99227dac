"""Options of commands whose runs can be recorded."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.records.budget import NO_BUDGET, Budget
from maskmesh.telemetry.config import DEFAULT_TRACE_DIR, load_telemetry

TRACES = "traces"


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Where a run is recorded, None for nowhere, and the budget of its windows."""

    folder: Path | None = None
    budget: Budget = NO_BUDGET

    def mesh_environment(self) -> dict[str, str]:
        """Variables of the services of a mesh: their trace files are kept with the records.

        A folder that the user has chosen by variable stays.  Traces of an earlier run in the same folder are
        deleted, as its other records are.
        """
        settings = load_telemetry(warns=False)
        if self.folder is None or settings.effective_exporter != "file":
            return {}
        if settings.trace_dir != DEFAULT_TRACE_DIR:
            return {}
        for path in (self.folder / TRACES).glob("*.jsonl"):
            path.unlink()
        return {"MASKMESH_TRACE_DIR": str((self.folder / TRACES).resolve())}

    def mesh_options(self, options: dict[str, Any]) -> MeshOptions:
        """The options of a mesh that a command starts for its run."""
        return MeshOptions(**options, environment=self.mesh_environment())


_OPTIONS = (
    click.option(
        "--records",
        "records_folder",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for records of the run: windows.jsonl, summary.json, usage.jsonl, and the traces of a "
        "mesh that the command starts.",
    ),
    click.option(
        "--fps", type=float, default=0.0, help="Target frame rate; one interval is the budget of a frame."
    ),
    click.option("--budget", "budget_ms", type=float, help="Budget of a window in milliseconds."),
    click.option("--window", type=int, default=1, show_default=True, help="Frames of a window."),
    click.option("--stride", type=int, default=0, help="Frames between the starts of two windows."),
)

_OPTION_OF_FIELD = {
    "frames_per_second": "--fps",
    "per_window": "--budget",
    "window_length": "--window",
    "window_stride": "--stride",
}


def record_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which receives them as ``records``."""

    @functools.wraps(command)
    def with_records(
        *,
        records_folder: Path | None,
        fps: float,
        budget_ms: float | None,
        window: int,
        stride: int,
        **others: Any,
    ) -> None:
        try:
            per_window = None if budget_ms is None else budget_ms / 1000
            budget = Budget(fps, per_window, window, stride)
        except ValueError as error:
            name, _, reason = str(error).partition(" ")
            raise click.UsageError(f"{_OPTION_OF_FIELD[name]} {reason}") from error
        command(records=RecordOptions(records_folder, budget), **others)

    decorated: Callable[..., None] = with_records
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
