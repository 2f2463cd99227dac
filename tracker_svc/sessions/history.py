"""The history of one session in the tracker."""

from collections.abc import Sequence
from dataclasses import replace

from maskmesh.errors import ResourceExhausted
from maskmesh.history import ClearRecord, FrameRange, HistoryEntry, PromptRecord, add_tracked


class History:
    """Entries in order, at most ``max_entries``.

    The entries of a removed object are removed: objects do not depend on one another.
    """

    def __init__(self, entries: Sequence[HistoryEntry] = (), *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries = list(entries)

    @property
    def entries(self) -> Sequence[HistoryEntry]:
        """The entries, the oldest first."""
        return self._entries

    def check_room(self) -> None:
        """Raises ResourceExhausted if the history is full."""
        if len(self._entries) >= self._max_entries:
            raise ResourceExhausted(
                f"the history of a session has at most {self._max_entries} entries", resource="history"
            )

    def add(self, entry: PromptRecord | ClearRecord) -> None:
        """Add a prompt or its removal."""
        self._entries.append(entry)

    def add_tracked(self, frame_index: int, *, reverse: bool) -> None:
        """Add a tracked frame."""
        add_tracked(self._entries, frame_index, reverse=reverse)

    def remove_object(self, obj_id: int) -> None:
        """Remove the entries of an object."""
        remaining_entries = [e for e in self._entries if isinstance(e, FrameRange) or e.obj_id != obj_id]
        self._entries = []
        for entry in remaining_entries:
            last = self._entries[-1] if self._entries else None
            if not isinstance(entry, FrameRange):
                self._entries.append(entry)
            elif isinstance(last, FrameRange) and last.followed_by(
                entry.first_frame_index, reverse=entry.reverse
            ):
                self._entries[-1] = replace(last, last_frame_index=entry.last_frame_index)
            elif last is not None:  # a range before the first prompt tracks no object
                self._entries.append(entry)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
