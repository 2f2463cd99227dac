"""The history of one session in the tracker."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from maskmesh.concepts import SessionConcept
from maskmesh.errors import ResourceExhausted
from maskmesh.history import (
    ConceptRemovalRecord,
    FrameRange,
    HistoryEntry,
    ObjectRecord,
    RemovalRecord,
    add_tracked,
)


class History:
    """Entries in order, at most ``max_entries``.

    The entries of a removed object are removed: objects do not depend on one another.  Objects of one concept
    do, so their entries stay until the concept is removed with them.
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

    def add(self, entry: ObjectRecord | SessionConcept | ConceptRemovalRecord) -> None:
        """Add an operation."""
        self._entries.append(entry)

    def add_tracked(self, frame_index: int, *, reverse: bool) -> None:
        """Add a tracked frame."""
        add_tracked(self._entries, frame_index, reverse=reverse)

    def remove_object(self, obj_id: int) -> None:
        """Remove the entries of an object."""
        self._keep(lambda entry: not isinstance(entry, ObjectRecord) or entry.obj_id != obj_id)

    def remove_concept(self, concept_id: int, obj_ids: Collection[int]) -> None:
        """Remove the entries of a concept and of its objects; ``obj_ids`` are those that it has now."""
        [added] = [e for e in self._entries if isinstance(e, SessionConcept) and e.concept_id == concept_id][
            -1:
        ]
        begin = self._entries.index(added)
        # An earlier concept may have had the number, and its objects may have stayed.
        removed = {
            entry.obj_id
            for entry in self._entries[begin:]
            if isinstance(entry, RemovalRecord) and entry.concept_id == concept_id
        } | set(obj_ids)
        self._keep(
            lambda entry: (
                entry is not added and (not isinstance(entry, ObjectRecord) or entry.obj_id not in removed)
            )
        )

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def _keep(self, stays: Callable[[HistoryEntry], bool]) -> None:
        """Keep some entries, and merge ranges of frames that become neighbours."""
        remaining_entries = [entry for entry in self._entries if stays(entry)]
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
