"""A tracked object: its identity, its prompts and its memory bank."""

from dataclasses import dataclass, field

from maskmesh.types import Prompt
from tracker_svc.memory.memory_bank import MemoryBank


@dataclass(slots=True)
class TrackedObject:
    """One object.

    The client chooses ``obj_id``.  It is not the object's row in a batch, which differs between batches.
    """

    obj_id: int
    bank: MemoryBank = field(default_factory=MemoryBank)
    prompts: dict[int, Prompt] = field(default_factory=dict)
    """The combined prompt on each prompted frame, by frame index."""
