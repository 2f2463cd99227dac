"""Prompts on the command line: each belongs to the --object and --frame that precede it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import click

from maskmesh.concepts import DEFAULT_OPTIONS, Concept, ConceptOptions, Exemplar
from maskmesh.types import Box, Point


@dataclass(slots=True)
class FramePrompt:
    """The prompt of one object on one frame."""

    points: list[Point] = field(default_factory=list)
    box: Box | None = None


class FrameConcept(NamedTuple):
    """A concept, and the frame on which it is added."""

    concept: Concept
    frame: int

    @property
    def title(self) -> str:
        """Its phrase, or what stands for it."""
        return self.concept.phrase or "boxes"


_SCORES = click.FloatRange(0, 1)
_SCORE = click.Option(
    ["--score-threshold"],
    type=_SCORES,
    default=DEFAULT_OPTIONS.score_threshold,
    show_default=True,
    help="Score above which an object of a --concept is found.",
)
_NEW_SCORE = click.Option(
    ["--new-score-threshold"],
    type=_SCORES,
    default=DEFAULT_OPTIONS.new_score_threshold,
    show_default=True,
    help="Score from which on a later frame adds an object to those of a --concept (videos only).",
)
_EVERY = click.Option(
    ["--detect-every"],
    type=click.IntRange(1),
    default=DEFAULT_OPTIONS.detect_every,
    show_default=True,
    help="Frames from one search for a --concept to the next (videos only).",
)
_HOTSTART = click.Option(
    ["--hotstart-delay"],
    type=click.IntRange(0, 64),
    help="Frames in which a new object of a --concept may leave as false; results wait.  [default: 15]",
)

PromptsByObject = dict[tuple[int, int], FramePrompt]
"""By object and frame, in the order in which they were given."""


class Numbers(click.ParamType[Any]):
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


class _Point(Numbers):
    def __init__(self) -> None:
        super().__init__("x,y[,label]", (2, 3))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a point.  The label is 1 for positive (the default) or 0 for negative."""
        numbers = super().convert(value, param, ctx)
        if len(numbers) == 3 and numbers[2] not in (0, 1):
            self.fail(f"a label is 1 or 0, not {numbers[2]:g}", param, ctx)
        return Point(numbers[0], numbers[1], len(numbers) == 2 or numbers[2] == 1)


class _Box(Numbers):
    def __init__(self) -> None:
        super().__init__("x0,y0,x1,y1", (4,))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a box, from the coordinates of its corners."""
        return Box(*super().convert(value, param, ctx))


def parse_point(text: str) -> Point:
    """A point in the form of --point.  Raises BadParameter."""
    point: Point = _Point().convert(text, None, None)
    return point


def parse_box(text: str) -> Box:
    """A box in the form of --box.  Raises BadParameter."""
    box: Box = _Box().convert(text, None, None)
    return box


class _Exemplar(Numbers):
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
            click.Option(["--frame"], type=click.IntRange(0), multiple=True, help="Frame of later prompts."),
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
    """A prompt command with --concept and --concept-box, and options of finding their objects.

    A box belongs to the concept before it, a concept to the --frame before it.  Its callback receives them
    together as ``concepts`` and ``concept_options``.
    """

    def __init__(self, *args: Any, is_live: bool = False, **kwargs: Any) -> None:
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
        self._options = (_SCORE, _NEW_SCORE, _EVERY) if is_live else (_SCORE, _NEW_SCORE, _EVERY, _HOTSTART)
        self.params[1 + len(self._order) : 1 + len(self._order)] = self._options

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Collect the options of concepts, besides the prompts."""
        rest = super().parse_args(ctx, args)
        values = {option.name or "": ctx.params.pop(option.name or "") for option in self._options}
        ctx.params["concept_options"] = ConceptOptions(**values)
        return rest

    def _collect(self, order: Sequence[tuple[click.Parameter, Any]], ctx: click.Context) -> None:
        super()._collect(order, ctx)
        concepts: list[tuple[str, list[Exemplar], int]] = []
        frame = 0
        for param, value in order:
            if param.name == "frame":
                frame = value
            elif param.name == "concept":
                concepts.append((value, [], frame))
            elif param.name == "concept_box":
                if not concepts:
                    concepts.append(("", [], frame))
                concepts[-1][1].append(value)
        ctx.params["concepts"] = [
            FrameConcept(Concept(phrase, exemplars), on) for phrase, exemplars, on in concepts
        ]
