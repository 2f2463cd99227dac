"""Prompts on the command line: each belongs to the --object and --frame that precede it."""

from dataclasses import dataclass, field
from typing import Any

import click

from maskmesh.types import Box, Point


@dataclass(slots=True)
class FramePrompt:
    """The prompt of one object on one frame."""

    points: list[Point] = field(default_factory=list)
    box: Box | None = None


PromptsByObject = dict[tuple[int, int], FramePrompt]
"""By object and frame, in the order in which they were given."""


class _Numbers(click.ParamType[Any]):
    """Comma-separated numbers."""

    def __init__(self, name: str, counts: tuple[int, ...]) -> None:
        self.name = name
        self._counts = counts

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a tuple of floats.  Raises BadParameter if ``value`` has another form."""
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts:
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return numbers


class _Point(_Numbers):
    def __init__(self) -> None:
        super().__init__("x,y[,label]", (2, 3))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a point.  The label is 1 for positive (the default) or 0 for negative."""
        numbers = super().convert(value, param, ctx)
        if len(numbers) == 3 and numbers[2] not in (0, 1):
            self.fail(f"a label is 1 or 0, not {numbers[2]:g}", param, ctx)
        return Point(numbers[0], numbers[1], len(numbers) == 2 or numbers[2] == 1)


class _Box(_Numbers):
    def __init__(self) -> None:
        super().__init__("x0,y0,x1,y1", (4,))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a box, from the coordinates of its corners."""
        return Box(*super().convert(value, param, ctx))


class PromptCommand(click.Command):
    """A command with --object, --frame, --point and --box, whose order is significant.

    Its callback receives them together as ``prompts``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order = (
            click.Option(["--object", "obj_id"], type=int, multiple=True, help="Object of later prompts."),
            click.Option(["--frame"], type=int, multiple=True, help="Frame of later prompts."),
            click.Option(["--point"], type=_Point(), multiple=True, help="A click; label 0 is negative."),
            click.Option(["--box"], type=_Box(), multiple=True, help="A box around the object."),
        )
        self.params[1:1] = self._order

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse twice: for the order of the options, then as usual."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        rest = super().parse_args(ctx, args)
        values = {option.name: list(ctx.params.pop(option.name or "")) for option in self._order}
        prompts: PromptsByObject = {}
        obj_id, frame = 1, 0
        for param in order:
            if param not in self._order:
                continue
            value = values[param.name].pop(0)
            if param.name == "obj_id":
                obj_id = value
            elif param.name == "frame":
                frame = value
            elif isinstance(value, Box):
                prompts.setdefault((obj_id, frame), FramePrompt()).box = value
            else:
                prompts.setdefault((obj_id, frame), FramePrompt()).points.append(value)
        ctx.params["prompts"] = prompts
        return rest
