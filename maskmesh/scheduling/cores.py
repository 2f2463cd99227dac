"""How many threads a service computes with."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from maskmesh.scheduling.batching import LARGEST_SIDE
from maskmesh.scheduling.cpu_sharing import SharedCores


class Layout(NamedTuple):
    """Threads of one operation, at most, and whether there are fewer while others use the same cores."""

    threads: int
    is_shared: bool
    reason: str


def choose_layout(threads: int, *, cores: int, shares_cores: bool, device: str, image_size: int) -> Layout:
    """The layout for a model of ``image_size`` squared; 0 threads leave it to this.

    ``cores`` is how many threads the framework would take, which knows about limits and variables.
    Operations of a small model are too short to be worth dividing: services that share cores then divide
    those for good.  Larger ones take what others leave.
    """
    if threads:
        return Layout(threads, False, "as set")
    if not shares_cores or not device.startswith("cpu"):
        return Layout(cores, False, "all cores")
    if image_size <= LARGEST_SIDE:
        return Layout(max(1, cores // 2), False, "a small model on a part of the cores")
    return Layout(cores, True, "all cores, or a part of them while others compute")


def share_cores(
    folder: Path | None, name: str, layout: Layout, set_threads: Callable[[int], None]
) -> SharedCores | None:
    """What a service shares its cores by, if it does.  Raises OSError where the folder cannot be made.

    ``name`` is the kind of service, of which there may be several.
    """
    if folder is None or not layout.is_shared:
        return None
    return SharedCores(folder, f"{name}-{os.getpid()}", cores=layout.threads, set_threads=set_threads)
