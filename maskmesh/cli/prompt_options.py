"""Prompts on the command line: each belongs to the --object and --frame that precede it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from maskmesh.concepts import Concept, Exemplar
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


class _Exemplar(_Numbers):
    def __init__(self) -> None:
        super().__init__("x0,y0,x1,y1[,label]", (4, 5))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns an exemplar.  The label is 1 for an example (the default) or 0 for a counterexample."""
        numbers = super().convert(value, param, ctx)
        if len(numbers) == 5 and numbers[4] not in (0, 1):
            self.fail(f"a label is 1 or 0, not {numbers[4]:g}", param, ctx)
        return Exemplar(Box(*numbers[:4]), len(numbers) == 4 or numbers[4] == 1)


class PromptCommand(click.Command):
    """A command with --object, --frame, --point and --box, whose order is significant.

    Its callback receives them together as ``prompts``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._order: tuple[click.Option, ...] = (
            click.Option(["--object", "obj_id"], type=int, multiple=True, help="Object of later prompts."),
            click.Option(["--frame"], type=int, multiple=True, help="Frame of later prompts."),
            click.Option(["--point"], type=_Point(), multiple=True, help="A click; label 0 is negative."),
            click.Option(["--box"], type=_Box(), multiple=True, help="A box around the object."),
        )
        self.params[1:1] = self._order

    def _collect(self, order: Sequence[tuple[click.Parameter, Any]], ctx: click.Context) -> None:
        """Set what the callback receives, from options and their values in the given order."""
        prompts: PromptsByObject = {}
        obj_id, frame = 1, 0
        for param, value in order:
            if param.name == "obj_id":
                obj_id = value
            elif param.name == "frame":
                frame = value
            elif param.name == "box":
                prompts.setdefault((obj_id, frame), FramePrompt()).box = value
            elif param.name == "point":
                prompts.setdefault((obj_id, frame), FramePrompt()).points.append(value)
        ctx.params["prompts"] = prompts

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse twice: for the order of the options, then as usual."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        rest = super().parse_args(ctx, args)
        values = {option.name: list(ctx.params.pop(option.name or "")) for option in self._order}
        given = [(param, values[param.name or ""].pop(0)) for param in order if param in self._order]
        self._collect(given, ctx)
        return rest


class ConceptCommand(PromptCommand):
    """A prompt command with --concept and --concept-box; a box belongs to the concept before it.

    Its callback receives them together as ``concepts``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        concepts = (
            click.Option(["--concept"], multiple=True, help="Find all objects that a phrase names."),
            click.Option(
                ["--concept-box"],
                type=_Exemplar(),
                multiple=True,
                help="A box around an example of the --concept before it; label 0 is a counterexample.",
            ),
        )
        self.params[1 + len(self._order) : 1 + len(self._order)] = concepts
        self._order += concepts

    def _collect(self, order: Sequence[tuple[click.Parameter, Any]], ctx: click.Context) -> None:
        super()._collect(order, ctx)
        concepts: list[tuple[str, list[Exemplar]]] = []
        for param, value in order:
            if param.name == "concept":
                concepts.append((value, []))
            elif param.name == "concept_box":
                if not concepts:
                    concepts.append(("", []))
                concepts[-1][1].append(value)
        ctx.params["concepts"] = [Concept(phrase, exemplars) for phrase, exemplars in concepts]
