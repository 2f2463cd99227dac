"""The client's copy of a session's history, from which it repeats what a lost session had."""

from collections.abc import Sequence

from maskmesh.concepts import SessionConcept
from maskmesh.history import (
    ConceptRemovalRecord,
    FrameRange,
    HistoryEntry,
    ObjectRecord,
    RemovalRecord,
    SessionObject,
    add_tracked,
)
from maskmesh.types import FrameMasks


class SessionHistory:
    """The operations of one session, as far as this client knows them."""

    def __init__(self, entries: Sequence[HistoryEntry] = (), objects: Sequence[SessionObject] = ()) -> None:
        self.entries: list[HistoryEntry] = list(entries)
        self._found: dict[int, int | None] = {}  # the concept of each object that a concept found
        for entry in entries:
            if isinstance(entry, RemovalRecord):
                self._found[entry.obj_id] = entry.concept_id
        for obj in objects:
            if obj.is_found:
                self._found[obj.obj_id] = obj.concept_id

    def add(self, entry: HistoryEntry) -> None:
        """Add an operation."""
        self.entries.append(entry)

    def add_frame(self, frame: FrameMasks, *, reverse: bool = False, tracked: bool = True) -> None:
        """Add a frame with the objects on it; ``tracked`` is false for one that only a concept searched."""
        for mask in frame.objects.values():
            if mask.concept_id is not None:
                self._found[mask.obj_id] = mask.concept_id
        if tracked:
            add_tracked(self.entries, frame.frame_index, reverse=reverse)

    def remove_object(self, obj_id: int) -> None:
        """Remove an object.  Its entries do not affect other objects, unless a concept found it."""
        if obj_id in self._found:
            self.entries.append(RemovalRecord(obj_id, self._found[obj_id]))
        else:
            self._keep_without({obj_id})

    def remove_concept(self, concept_id: int, *, keep_objects: bool) -> None:
        """Remove a concept, with its objects unless they are kept."""
        own = {obj_id for obj_id, found_by in self._found.items() if found_by == concept_id}
        if keep_objects:
            self.entries.append(ConceptRemovalRecord(concept_id))
            self._found |= dict.fromkeys(own)
            return
        self._keep_without(own)
        added = [e for e in self.entries if isinstance(e, SessionConcept) and e.concept_id == concept_id]
        self.entries = [entry for entry in self.entries if not added or entry is not added[-1]]

    def without_tracking(self) -> list[HistoryEntry]:
        """The operations that do not depend on tracked frames; objects that concepts found do."""
        return [
            entry
            for entry in self.entries
            if not isinstance(entry, FrameRange)
            and not (isinstance(entry, ObjectRecord) and entry.obj_id in self._found)
        ]

    def _keep_without(self, obj_ids: set[int]) -> None:
        self.entries = [e for e in self.entries if not isinstance(e, ObjectRecord) or e.obj_id not in obj_ids]
