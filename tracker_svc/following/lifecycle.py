"""The life of each followed object: when it was first seen, how often it was unmatched or a duplicate."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tracker_svc.following.association import Association
from tracker_svc.following.rules import FollowingRules


@dataclass(slots=True)
class Lifecycle:
    """The counters of one concept's objects, by ``obj_id``; plain values, which a snapshot can hold."""

    first_frame: dict[int, int] = field(default_factory=dict)
    keep_alive: dict[int, int] = field(default_factory=dict)
    unmatched: dict[int, int] = field(default_factory=dict)
    """Number of frames on which an object was unmatched."""
    duplicates: dict[tuple[int, int], int] = field(default_factory=dict)
    """Number of frames on which an older and a younger object had one detection."""
    last_occluded: dict[int, int] = field(default_factory=dict)
    """The last frame on which an object was out of sight or hidden; -1 for none."""
    removed: set[int] = field(default_factory=set)

    def update(
        self,
        frame_index: int,
        found: Association,
        new_ids: Sequence[int],
        rules: FollowingRules,
        *,
        reverse: bool = False,
    ) -> tuple[list[int], list[int]]:
        """Count the associations of a frame.

        Returns the objects that are removed, because they were unmatched or duplicates too often while they
        are young, and the objects that hide, because they were unmatched more often than matched.
        """
        for obj_id in new_ids:
            self.first_frame.setdefault(obj_id, frame_index)
            self.keep_alive[obj_id] = rules.keep_alive_start
        for obj_id in {obj_id for matched in found.matches.values() for obj_id in matched}:
            self.keep_alive[obj_id] = min(rules.keep_alive_max, self.keep_alive[obj_id] + 1)
        for obj_id in found.unmatched:
            self.unmatched[obj_id] = self.unmatched.get(obj_id, 0) + 1
        lapsed = [*found.unmatched, *(found.empty if rules.empty_counts_as_unmatched else ())]
        for obj_id in lapsed:
            self.keep_alive[obj_id] = max(rules.keep_alive_min, self.keep_alive[obj_id] - 1)
        removed = self._lost(frame_index, rules, reverse=reverse)
        hidden = [
            obj_id
            for obj_id in self.unmatched
            if rules.hides_unmatched and self.keep_alive[obj_id] <= 0
            and obj_id not in self.removed and obj_id not in removed
        ]  # fmt: skip
        self._count_duplicates(found, reverse=reverse)
        removed += self._doubled(frame_index, rules, removed, reverse=reverse)
        self.removed.update(removed)
        return removed, hidden

    def forget(self, obj_id: int) -> None:
        """Forget an object that the session no longer has."""
        for counters in (self.first_frame, self.keep_alive, self.unmatched, self.last_occluded):
            counters.pop(obj_id, None)
        self.duplicates = {pair: n for pair, n in self.duplicates.items() if obj_id not in pair}
        self.removed.discard(obj_id)

    def _is_young(self, obj_id: int, frame_index: int, rules: FollowingRules, *, reverse: bool) -> bool:
        age = self.first_frame[obj_id] - frame_index if reverse else frame_index - self.first_frame[obj_id]
        return age < rules.hotstart_delay

    def _lost(self, frame_index: int, rules: FollowingRules, *, reverse: bool) -> list[int]:
        return [
            obj_id
            for obj_id, count in self.unmatched.items()
            if obj_id not in self.removed
            and count >= rules.hotstart_unmatched
            and self._is_young(obj_id, frame_index, rules, reverse=reverse)
        ]

    def _count_duplicates(self, found: Association, *, reverse: bool) -> None:
        for matched in found.matches.values():
            if len(matched) < 2:
                continue
            choose = max if reverse else min
            oldest = choose(matched, key=self.first_frame.__getitem__)
            for obj_id in matched:
                if obj_id != oldest:
                    self.duplicates[oldest, obj_id] = self.duplicates.get((oldest, obj_id), 0) + 1

    def _doubled(
        self, frame_index: int, rules: FollowingRules, lost: Sequence[int], *, reverse: bool
    ) -> list[int]:
        doubled: list[int] = []
        for (_, obj_id), count in self.duplicates.items():
            if obj_id in self.removed or obj_id in lost or obj_id in doubled:
                continue
            is_young = self._is_young(obj_id, frame_index, rules, reverse=reverse)
            if is_young and count >= rules.hotstart_duplicate:
                doubled.append(obj_id)
        return doubled
