"""Options of commands that follow points: the model, and the motion in windows."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from maskmesh.cli.mesh.mesh_options import point_flags, with_flags
from maskmesh.points import MotionOptions
from maskmesh.records.budget import Budget

# The longest window that the gateway accepts.
MAX_WINDOW = 256

_FILE = click.Path(dir_okay=False, path_type=Path)
_CHECKPOINT = click.Path(exists=True, dir_okay=False, path_type=Path)


class Grid(click.ParamType[tuple[int, int]]):
    """Rows and columns."""

    name = "ROWSxCOLUMNS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            rows, columns = map(int, str(value).lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is not ROWSxCOLUMNS, for example 20x20", param, ctx)
        return rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSettings:
    """The values of the options."""

    point_model: str
    point_checkpoint: Path | None
    motion: Path | None
    motion_fps: float
    tokens: bool
    motion_checkpoint: Path | None
    energy_threshold: float

    def check(self) -> None:
        """Raises UsageError if an option needs another one that is missing."""
        others = (self.tokens, self.energy_threshold, self.motion_fps, self.motion_checkpoint)
        if self.motion is None and any(others):
            raise click.UsageError(
                "--tokens, --energy-threshold, --motion-fps and --motion-checkpoint need a file for --motion"
            )

    def mesh(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a mesh that has the model and the tokenizer."""
        flags = point_flags(self.point_model, self.point_checkpoint)
        tokenizer = []
        if self.motion_checkpoint is not None:
            tokenizer = ["--motion-checkpoint", str(self.motion_checkpoint.absolute())]
        return with_flags(options, {"encoder": flags, "tracker": [*flags, *tokenizer]})

    def motion_options(self, budget: Budget) -> MotionOptions | None:
        """The options of motion, whose windows are those of the records; None without --motion.

        Raises UsageError.
        """
        if self.motion is None:
            return None
        defaults = MotionOptions()
        given = click.get_current_context().get_parameter_source("window") is ParameterSource.COMMANDLINE
        length = budget.window_length if given else defaults.window_length
        stride = budget.window_stride or min(defaults.window_stride, length)
        if not max(stride, 2) <= length <= MAX_WINDOW:
            raise click.UsageError(
                f"with --motion, --window is 2 to {MAX_WINDOW}, and --stride at most --window"
            )
        return MotionOptions(
            window_length=length,
            window_stride=stride,
            frames_per_second=self.motion_fps,
            tokens=self.tokens,
            energy_threshold=self.energy_threshold,
        )


_OPTIONS = (
    click.option(
        "--point-model",
        default="lucas-kanade",
        show_default=True,
        help="Model for points: tapir (with --point-checkpoint), or lucas-kanade, which has no weights and "
        "loses points that are hidden.",
    ),
    click.option("--point-checkpoint", type=_CHECKPOINT, help="Checkpoint of the model for points."),
    click.option(
        "--motion",
        type=_FILE,
        help="File for the motion in windows of --window frames that begin every --stride (JSON).",
    ),
    click.option(
        "--motion-fps", type=click.FloatRange(0), default=0.0, help="Rate of the frames of windows."
    ),
    click.option("--tokens", is_flag=True, help="Codes of the motion tokenizer, in --motion."),
    click.option("--motion-checkpoint", type=_CHECKPOINT, help="Checkpoint of the motion tokenizer."),
    click.option(
        "--energy-threshold",
        type=click.FloatRange(0),
        default=0.0,
        help="Energy at which an action begins; 0 finds no boundaries.",
    ),
)


def point_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which receives them as ``point_settings``."""

    @functools.wraps(command)
    def with_settings(**options: Any) -> None:
        names = PointSettings.__dataclass_fields__
        settings = PointSettings(**{name: options.pop(name) for name in names})
        settings.check()
        command(point_settings=settings, **options)

    for option in reversed(_OPTIONS):
        with_settings = option(with_settings)
    return with_settings
