"""The history of one session, as it grows."""

from collections.abc import Sequence
from dataclasses import replace

from maskmesh.errors import ResourceExhausted
from maskmesh.history import ClearRecord, FrameRange, HistoryEntry, PromptRecord


class History:
    """Entries in order, at most ``max_entries``.

    An object's entries go with it: objects do not depend on one another, so what was said of one that is
    gone changes nothing of the others.
    """

    def __init__(self, entries: Sequence[HistoryEntry] = (), *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries = list(entries)

    @property
    def entries(self) -> Sequence[HistoryEntry]:
        """What was done, the oldest first."""
        return self._entries

    def check_room(self) -> None:
        """Raises ResourceExhausted where nothing more may be done."""
        if len(self._entries) >= self._max_entries:
            raise ResourceExhausted(
                f"the history of a session has at most {self._max_entries} entries", resource="history"
            )

    def add(self, entry: PromptRecord | ClearRecord) -> None:
        """Something was said."""
        self._entries.append(entry)

    def add_tracked(self, frame_index: int, *, reverse: bool) -> None:
        """A frame was tracked."""
        last = self._entries[-1] if self._entries else None
        if isinstance(last, FrameRange) and last.followed_by(frame_index, reverse=reverse):
            self._entries[-1] = replace(last, last_frame_index=frame_index)
        else:
            self._entries.append(FrameRange(frame_index, frame_index, reverse))

    def remove_object(self, obj_id: int) -> None:
        """An object is gone."""
        kept = [e for e in self._entries if isinstance(e, FrameRange) or e.obj_id != obj_id]
        self._entries = []
        for entry in kept:
            last = self._entries[-1] if self._entries else None
            if not isinstance(entry, FrameRange):
                self._entries.append(entry)
            elif isinstance(last, FrameRange) and last.followed_by(
                entry.first_frame_index, reverse=entry.reverse
            ):
                self._entries[-1] = replace(last, last_frame_index=entry.last_frame_index)
            elif last is not None:  # else nobody is left whom it is about
                self._entries.append(entry)

    def clear(self) -> None:
        """All objects are gone."""
        self._entries.clear()
