"""How many threads a service computes with."""

from pathlib import Path
from typing import NamedTuple

from maskmesh.batching import LARGEST_SIDE
from maskmesh.turns import Turns


class Layout(NamedTuple):
    """Threads of one operation, and whether the service takes turns with others on the same cores."""

    threads: int
    takes_turns: bool
    reason: str


def choose_layout(threads: int, *, cores: int, shares_cores: bool, device: str, image_size: int) -> Layout:
    """The layout for a model of ``image_size`` squared; 0 threads leave it to this.

    ``cores`` is how many threads the framework would take, which knows about limits and variables.
    Operations of a small model are too short to be worth dividing: services that share cores then divide
    those.  Larger ones take turns on all of them.
    """
    if threads:
        return Layout(threads, False, "as set")
    if not shares_cores or not device.startswith("cpu"):
        return Layout(cores, False, "all cores")
    if image_size <= LARGEST_SIDE:
        return Layout(max(1, cores // 2), False, "a small model on a part of the cores")
    return Layout(cores, True, "all cores, in turns with others")


def open_turns(path: Path | None, layout: Layout) -> Turns | None:
    """What a service takes turns by, if it does.  Raises OSError where the file cannot be opened."""
    return Turns(path) if path is not None and layout.takes_turns else None
