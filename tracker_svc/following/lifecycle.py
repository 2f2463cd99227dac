"""The life of each followed object: when it was first seen, how often it was unmatched or a duplicate."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from tracker_svc.following.association import Association
from tracker_svc.following.rules import FollowingRules

# Why an object leaves.
UNMATCHED, DUPLICATE, DISMISSED = "unmatched", "duplicate", "dismissed"

# For how many frames the objects that left are remembered, so that results can be repeated.
GONE_FRAMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLife:
    """The counters of one object, in frames."""

    first_frame: int
    keep_alive: int
    reverse: bool | None = None
    """The direction of tracking in which it was found; None until it is tracked."""
    is_established: bool = False
    """Whether it has survived its hotstart, which a second pass over the frames does not repeat."""
    unmatched: int = 0
    """Number of frames on which it was unmatched."""
    last_occluded: int | None = None
    """The last frame on which it was out of sight or hidden."""


@dataclass(slots=True)
class Lifecycle:
    """The counters of one concept's objects, by ``obj_id``; plain values, which a snapshot can hold."""

    lives: dict[int, ObjectLife] = field(default_factory=dict)
    duplicates: dict[tuple[int, int], int] = field(default_factory=dict)
    """Number of frames on which an older and a younger object had one detection."""
    gone: dict[int, int] = field(default_factory=dict)
    """The frame on which each object left, for recent frames."""
    last_frame: int | None = None
    """The last frame on which the objects were followed."""

    def copy(self) -> "Lifecycle":
        """A copy that can be changed alone."""
        return Lifecycle(dict(self.lives), dict(self.duplicates), dict(self.gone), self.last_frame)

    def begin_frame(self, frame_index: int, *, reverse: bool) -> None:
        """Move to a frame.  After a jump, what was counted along another way does not count."""
        step = -1 if reverse else 1
        if self.last_frame is not None and frame_index != self.last_frame + step:
            self.lives = {i: replace(life, unmatched=0, last_occluded=None) for i, life in self.lives.items()}
            self.duplicates.clear()
            self.gone.clear()
        self.last_frame = frame_index
        self.gone = {i: frame for i, frame in self.gone.items() if abs(frame_index - frame) <= GONE_FRAMES}

    def add(self, frame_index: int, obj_ids: Iterable[int], rules: FollowingRules) -> None:
        """Add objects that were found on a frame."""
        for obj_id in obj_ids:
            self.lives[obj_id] = ObjectLife(first_frame=frame_index, keep_alive=rules.keep_alive_start)

    def grow(self, obj_ids: Iterable[int], rules: FollowingRules, *, reverse: bool) -> None:
        """Record that objects are tracked to the present frame; the first direction of tracking counts."""
        for obj_id in obj_ids:
            life = self.lives[obj_id]
            if life.reverse is None:
                life = replace(life, reverse=reverse)
            if life.reverse == reverse and self._age(obj_id, reverse=reverse) >= rules.hotstart_delay:
                life = replace(life, is_established=True)
            self.lives[obj_id] = life

    def count(
        self,
        found: Association,
        rules: FollowingRules,
        *,
        dismissed: Collection[int] = (),
        reverse: bool = False,
    ) -> None:
        """Count the associations of a frame; ``dismissed`` objects also lapse while they are out of sight."""
        for obj_id in {obj_id for matched in found.matches.values() for obj_id in matched}:
            self._change(obj_id, keep_alive=min(rules.keep_alive_max, self.lives[obj_id].keep_alive + 1))
        for obj_id in found.unmatched:
            if self._age(obj_id, reverse=reverse) >= 0:  # before, it was not found yet
                self._change(obj_id, unmatched=self.lives[obj_id].unmatched + 1)
        lapsed = [*found.unmatched]
        lapsed += [i for i in found.empty if rules.empty_counts_as_unmatched or i in dismissed]
        for obj_id in lapsed:
            self._change(obj_id, keep_alive=max(rules.keep_alive_min, self.lives[obj_id].keep_alive - 1))
        self._count_duplicates(found, reverse=reverse)

    def leaving(self, rules: FollowingRules, *, dismissed: Collection[int], reverse: bool) -> dict[int, str]:
        """The objects that leave, and why.

        Young objects leave that were unmatched or duplicates too often, and dismissed ones that lapsed.
        """
        young = [i for i in self.lives if self._is_young(i, rules, reverse=reverse)]
        lost = [i for i in young if self.lives[i].unmatched >= rules.hotstart_unmatched]
        doubled = [
            obj_id
            for (_, obj_id), frames in self.duplicates.items()
            if obj_id in young and frames >= rules.hotstart_duplicate
        ]
        lapsed = [i for i in dismissed if i in self.lives and self.lives[i].keep_alive <= 0]
        reasons = dict.fromkeys(lapsed, DISMISSED) | dict.fromkeys(doubled, DUPLICATE)
        return reasons | dict.fromkeys(lost, UNMATCHED)

    def hidden(self, rules: FollowingRules) -> list[int]:
        """The objects that hide, because they were unmatched more often than matched."""
        if not rules.hides_unmatched:
            return []
        return [i for i, life in self.lives.items() if life.unmatched and life.keep_alive <= 0]

    def occlude(self, obj_id: int, frame_index: int) -> None:
        """Record that an object is out of sight or hidden on a frame."""
        self._change(obj_id, last_occluded=frame_index)

    def remove(self, obj_id: int, frame_index: int | None = None) -> None:
        """Forget an object; with ``frame_index``, remember that it left on that frame."""
        self.lives.pop(obj_id, None)
        self.duplicates = {pair: n for pair, n in self.duplicates.items() if obj_id not in pair}
        if frame_index is not None:
            self.gone[obj_id] = frame_index

    def new_on(self, frame_index: int) -> list[int]:
        """The objects that were found on a frame."""
        return [obj_id for obj_id, life in self.lives.items() if life.first_frame == frame_index]

    def gone_on(self, frame_index: int) -> list[int]:
        """The objects that left on a recent frame."""
        return [obj_id for obj_id, frame in self.gone.items() if frame == frame_index]

    def _change(self, obj_id: int, **counts: int) -> None:
        self.lives[obj_id] = replace(self.lives[obj_id], **counts)  # type: ignore[arg-type]

    def _age(self, obj_id: int, *, reverse: bool) -> int:
        """The number of frames from the one on which an object was found to the present one."""
        assert self.last_frame is not None, "a frame has begun"
        first = self.lives[obj_id].first_frame
        return first - self.last_frame if reverse else self.last_frame - first

    def _is_young(self, obj_id: int, rules: FollowingRules, *, reverse: bool) -> bool:
        life = self.lives[obj_id]
        if life.is_established or life.reverse not in (None, reverse):
            return False
        return 0 <= self._age(obj_id, reverse=reverse) < rules.hotstart_delay

    def _count_duplicates(self, found: Association, *, reverse: bool) -> None:
        choose = max if reverse else min
        for matched in found.matches.values():
            if len(matched) < 2:
                continue
            oldest = choose(matched, key=lambda obj_id: self.lives[obj_id].first_frame)
            for obj_id in matched:
                if obj_id != oldest:
                    self.duplicates[oldest, obj_id] = self.duplicates.get((oldest, obj_id), 0) + 1
