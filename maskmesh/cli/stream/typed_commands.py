"""Commands that are typed, or read from a file, while a stream runs."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable

import click

from maskmesh.cli.points.options import Grid
from maskmesh.cli.prompt_options import parse_box, parse_point
from maskmesh.client.live.live_stream import LiveStream
from maskmesh.concepts import ConceptOptions
from maskmesh.errors import MaskmeshError
from maskmesh.points import PointGrid

HELP = """\
point OBJECT X,Y[,LABEL] ...   click; a label of 0 is negative
box OBJECT X0,Y0,X1,Y1         box around an object
concept PHRASE                 find all objects that a phrase names (SAM 3)
remove OBJECT                  stop tracking an object
follow X,Y ...                 follow points
follow ROWSxCOLUMNS [OBJECT]   follow a grid of points, over the frame or inside an object
unfollow [POINT ...]           stop following points, by default all
pause, resume                  stop and continue sending frames
quit                           stop the stream after the results in progress
help                           this list
Prompts and points apply to the last frame that was sent."""


class StreamControl:
    """Whether frames are sent."""

    def __init__(self) -> None:
        self.is_stopped = asyncio.Event()
        self.is_running = asyncio.Event()
        self.is_running.set()
        self.has_sent = asyncio.Event()
        """Set once a frame was sent, which prompts can refer to."""

    @property
    def is_paused(self) -> bool:
        """Whether sending is paused."""
        return not self.is_running.is_set()

    def stop(self) -> None:
        """Send no more frames."""
        self.is_stopped.set()
        self.is_running.set()


class TypedCommands:
    """Carries out commands on an open stream."""

    def __init__(
        self,
        live: LiveStream,
        control: StreamControl,
        *,
        concept_options: ConceptOptions,
        next_concept: int,
        next_point: int,
    ) -> None:
        """``next_concept`` and ``next_point`` are the numbers of the next concept and point."""
        self._live = live
        self._control = control
        self._concept_options = concept_options
        self._next_concept = next_concept
        self._next_point = next_point
        self._actions: dict[str, Callable[[list[str]], Awaitable[str]]] = {
            "point": self._point,
            "box": self._box,
            "concept": self._concept,
            "remove": self._remove,
            "follow": self._follow,
            "unfollow": self._unfollow,
            "pause": self._pause,
            "resume": self._resume,
            "quit": self._quit,
            "help": self._help,
        }

    async def run(self, line: str) -> str:
        """Carry out one line; returns what to say.  An invalid line changes nothing."""
        try:
            name, *words = shlex.split(line, comments=True) or [""]
        except ValueError as error:
            return f"{line!r}: {error}"
        if not name:
            return ""
        if (action := self._actions.get(name)) is None:
            return f"there is no command {name!r}; help lists them"
        try:
            return await action(words)
        except (MaskmeshError, ValueError) as error:
            return f"{line.strip()}: {error}"
        except click.BadParameter as error:
            return f"{line.strip()}: {error.message}"

    async def _point(self, words: list[str]) -> str:
        obj_id = _object(words)
        if len(words) < 2:
            raise ValueError("a point is X,Y or X,Y,LABEL")
        points = [parse_point(word) for word in words[1:]]
        await self._control.has_sent.wait()
        found = await self._live.add_prompt(obj_id, points=points)
        return f"object {obj_id}: {_area(found.objects[obj_id].box)}"

    async def _box(self, words: list[str]) -> str:
        obj_id = _object(words)
        if len(words) != 2:
            raise ValueError("a box is X0,Y0,X1,Y1")
        box = parse_box(words[1])
        await self._control.has_sent.wait()
        found = await self._live.add_prompt(obj_id, box=box)
        return f"object {obj_id}: {_area(found.objects[obj_id].box)}"

    async def _concept(self, words: list[str]) -> str:
        phrase = " ".join(words)
        if not phrase:
            raise ValueError("a phrase is needed")
        number, self._next_concept = self._next_concept, self._next_concept + 1
        await self._live.add_concept(number, phrase, options=self._concept_options)
        return f"concept {number}: {phrase}"

    async def _remove(self, words: list[str]) -> str:
        obj_id = _object(words)
        remaining = await self._live.remove_object(obj_id)
        return f"object {obj_id} is removed; {len(remaining)} left"

    async def _follow(self, words: list[str]) -> str:
        if not words:
            raise ValueError("a point X,Y or a grid ROWSxCOLUMNS is needed")
        first = self._next_point
        if "x" in words[0].lower():
            rows, columns = Grid().convert(words[0], None, None)
            obj_id = _object(words[1:]) if words[1:] else None
            grids = [PointGrid(rows, columns, obj_id=obj_id, first_point_id=first)]
            points: dict[int, tuple[float, float]] = {}
        else:
            grids, places = [], [parse_point(word) for word in words]
            points = {first + number: (place.x, place.y) for number, place in enumerate(places)}
        await self._control.has_sent.wait()
        added = await self._live.add_points(points, grids=grids)
        self._next_point += len(added)
        last = first + len(added) - 1
        return f"point {first} is followed" if last == first else f"points {first} to {last} are followed"

    async def _unfollow(self, words: list[str]) -> str:
        if not all(word.isdecimal() for word in words):
            raise ValueError("the numbers of points are needed")
        remaining = await self._live.remove_points([int(word) for word in words])
        return f"{len(remaining)} points are followed"

    async def _pause(self, words: list[str]) -> str:
        self._control.is_running.clear()
        return "paused"

    async def _resume(self, words: list[str]) -> str:
        self._control.is_running.set()
        return "running"

    async def _quit(self, words: list[str]) -> str:
        self._control.stop()
        return "stopping"

    async def _help(self, words: list[str]) -> str:
        return HELP


def _object(words: list[str]) -> int:
    if not words or not words[0].lstrip("-").isdecimal():
        raise ValueError("the number of an object is needed")
    return int(words[0])


def _area(box: object) -> str:
    return "prompted" if box is not None else "prompted; its mask is empty"
