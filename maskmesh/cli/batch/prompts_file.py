"""The prompts of many files, from one CSV or JSON file.

Each row names files and prompts one object on one frame, or adds a concept on a frame.  Columns, in JSON the
keys of the objects of one list: ``file`` (a name relative to the folder, or a pattern such as ``*.mp4``),
``frame`` (default 0), and either ``object`` (default 1) with ``points`` or ``box``, or ``concept`` (a phrase)
and ``concept_boxes``.  In CSV a point is ``x,y`` or ``x,y,label``, a box ``x0,y0,x1,y1``, and several are
separated by spaces; in JSON they are lists of numbers.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from maskmesh.cli.prompt_options import FrameConcept
from maskmesh.concepts import Concept
from maskmesh.types import Prompt

COLUMNS = ("file", "frame", "object", "points", "box", "concept", "concept_boxes")


class PromptsFileError(ValueError):
    """The file of prompts cannot be used; the message names the row and the column."""


class FramePrompt(NamedTuple):
    """The prompt of one object on one frame."""

    obj_id: int
    frame: int
    prompt: Prompt


@dataclass(slots=True)
class ItemPrompts:
    """The prompts and the concepts of one file."""

    prompts: list[FramePrompt] = field(default_factory=list)
    concepts: list[FrameConcept] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.prompts or self.concepts)

    @property
    def frames(self) -> list[int]:
        """The frames that they are on."""
        return [prompt.frame for prompt in self.prompts] + [concept.frame for concept in self.concepts]

    def merged(self) -> dict[tuple[int, int], Prompt]:
        """One prompt for each frame and object, because a box must come with its points.

        Of several boxes the last one counts.
        """
        merged: dict[tuple[int, int], Prompt] = {}
        for obj_id, frame, prompt in self.prompts:
            earlier = merged.get((frame, obj_id), Prompt())
            merged[frame, obj_id] = Prompt((*earlier.points, *prompt.points), prompt.box or earlier.box)
        return merged


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    pattern: str
    content: FramePrompt | FrameConcept

    def names(self, name: str) -> bool:
        """Whether it names a file, which may have brackets in its name."""
        return name == self.pattern or fnmatchcase(name, self.pattern)


class PromptsFile:
    """The rows of a file of prompts."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self._rows = rows

    @classmethod
    def read(cls, path: Path) -> "PromptsFile":
        """Read a CSV or JSON file.  Raises PromptsFileError, OSError."""
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(text) if text.lstrip()[:1] in ("[", "{") else _csv_rows(text)
        read = [_row(where, values) for where, values in rows]
        if not read:
            raise PromptsFileError(f"{path.name} has no rows")
        return cls(read)

    def of(self, name: str) -> ItemPrompts:
        """The prompts of the file with a name, in the order of the rows."""
        item = ItemPrompts()
        for row in self._rows:
            if not row.names(name):
                continue
            if isinstance(row.content, FrameConcept):
                item.concepts.append(row.content)
            else:
                item.prompts.append(row.content)
        return item

    def unmatched(self, names: Sequence[str]) -> list[str]:
        """The rows that name none of the files, as words."""
        return [
            f"{row.where}: {row.pattern}" for row in self._rows if not any(row.names(name) for name in names)
        ]


def _csv_rows(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        _check_names("the first line", reader.fieldnames or ())
        for values in reader:
            where = f"line {reader.line_num}"
            if None in values or None in values.values():
                raise PromptsFileError(f"{where} has another number of columns than the first line")
            yield (
                where,
                {name: _csv_value(where, name, value) for name, value in values.items() if value.strip()},
            )
    except csv.Error as error:
        raise PromptsFileError(f"line {max(reader.line_num, 1)}: {error}") from error


def _csv_value(where: str, name: str, value: str) -> Any:
    if name in ("file", "concept"):
        return value.strip()
    try:
        if name in ("frame", "object"):
            return int(value)
        lists = [[float(number) for number in part.split(",")] for part in value.split()]
    except ValueError:
        raise PromptsFileError(f"{where}, {name}: {value!r} is not of numbers") from None
    if name != "box":
        return lists
    if len(lists) != 1:
        raise PromptsFileError(f"{where}, box: {value!r} is not one box")
    return lists[0]


def _json_rows(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise PromptsFileError(f"the JSON cannot be read: {error}") from error
    if not isinstance(rows, list):
        raise PromptsFileError("the JSON is not a list")
    for number, values in enumerate(rows):
        if not isinstance(values, dict):
            raise PromptsFileError(f"element {number} is not an object")
        _check_names(f"element {number}", values)
        yield (
            f"element {number}",
            {name: value for name, value in values.items() if value not in (None, "", [])},
        )


def _check_names(where: str, names: Sequence[str] | Mapping[str, Any]) -> None:
    if unknown := [name for name in names if name not in COLUMNS]:
        raise PromptsFileError(
            f"{where} has the unknown column {unknown[0]!r}; columns are {', '.join(COLUMNS)}"
        )


def _row(where: str, values: Mapping[str, Any]) -> _Row:
    if not isinstance(values.get("file"), str):
        raise PromptsFileError(f"{where}: the column file is missing")
    frame, obj_id = (
        _integer(where, values, name, default) for name, default in (("frame", 0), ("object", 1))
    )
    if frame < 0:
        raise PromptsFileError(f"{where}, frame: {frame} is negative")
    is_object = "points" in values or "box" in values
    is_concept = "concept" in values or "concept_boxes" in values
    if is_object == is_concept:
        raise PromptsFileError(f"{where}: a row has points or a box, or a concept")
    content: FramePrompt | FrameConcept
    try:
        if is_object:
            prompt = Prompt.of(points=values.get("points", ()), box=values.get("box"))
            content = FramePrompt(obj_id, frame, prompt)
        else:
            phrase = values.get("concept", "")
            if not isinstance(phrase, str):
                raise PromptsFileError(f"{where}, concept: {phrase!r} is not text")
            concept = Concept.of(phrase, values.get("concept_boxes", ()))
            content = FrameConcept(concept, frame)
    except PromptsFileError:
        raise
    except (TypeError, ValueError) as error:
        raise PromptsFileError(f"{where}: {error}") from error
    return _Row(where, values["file"], content)


def _integer(where: str, values: Mapping[str, Any], name: str, default: int) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise PromptsFileError(f"{where}, {name}: {value!r} is not an integer")
    return value
