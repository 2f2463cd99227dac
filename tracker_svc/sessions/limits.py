"""The limits of one session of the tracker."""

from dataclasses import dataclass, field

from tracker_svc.memory.memory_bank import MIN_RECENT_FRAMES
from tracker_svc.model.config import MemoryRules


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Limits of one session."""

    max_objects: int = 64
    max_prompted_frames: int = 256
    """Limit for one object; each prompted frame conditions every frame."""
    max_history: int = 10_000
    disk_bytes: int = 2**33
    recent_frames: int = MIN_RECENT_FRAMES
    """Tracked frames of one object in memory."""
    memory_rules: MemoryRules = field(default_factory=MemoryRules)
