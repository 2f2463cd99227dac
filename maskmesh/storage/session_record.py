"""Sessions in the store, as gateways and trackers read and write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

# The attribute that marks a deleted session.
ENDED = "ended"


class Owner(NamedTuple):
    """The tracker that owns a session, and the ownership epoch: 1 for the first owner."""

    address: str
    epoch: int


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as gateways see it."""

    session_id: str
    owner: Owner
    ttl_seconds: float
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Values that gateways set for one another."""

    @property
    def has_ended(self) -> bool:
        """Whether it was deleted."""
        return ENDED in self.attributes


class SessionDelta(NamedTuple):
    """One write of a session."""

    snapshot: bytes
    fields: Mapping[str, bytes]
    """States and responses to set, by name."""
    deleted: Sequence[str] = ()
    """Names of states and responses to delete."""
    is_full: bool = False
    """Whether it replaces everything that the store has of the session."""


class StoredSession(NamedTuple):
    """The replicated state of a session."""

    snapshot: bytes
    fields: Mapping[str, bytes]


class WriteResult(Enum):
    """The result of a write."""

    DONE = 0
    STALE = 1
    """Another tracker owns the session: nothing was written."""
    ABSENT = 2
    """The store has lost the session, so the delta cannot be applied."""
