"""A session kept in a shared store while it goes on, so that another tracker can take it from there."""

import asyncio
import logging
from dataclasses import dataclass, field

from maskmesh.errors import StaleEpoch
from maskmesh.internal.v1 import snapshot_pb2
from maskmesh.rpc.idempotency import KeyedAnswer
from maskmesh.storage.redis_store import PAUSE_SECONDS, StoreDown, stop
from maskmesh.storage.session_store import Change, StoredSession, Owner, SessionStore, WriteResult
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.sessions.session import Session
from tracker_svc.sessions.snapshot import (
    TRACKED,
    StateKey,
    answer_to_proto,
    archived_keys,
    session_to_proto,
    state_to_proto,
    states_in_memory,
)

logger = logging.getLogger(__name__)

# So many frames may be tracked and not kept yet: whoever takes the session over tracks them again.
MAX_BEHIND = 8

# Answers stand among the states, under the key of their request.
ANSWER = "answer."


@dataclass(slots=True)
class _Pending:
    """What is to be written: the session as it is, and states that changed; None for one that is no more."""

    snapshot: snapshot_pb2.SessionSnapshot
    states: dict[StateKey, FrameState | None] = field(default_factory=dict)
    answers: dict[str, KeyedAnswer | None] = field(default_factory=dict)
    """By their keys."""
    is_whole: bool = False
    count: int = 0
    """How many notes it holds, of all since the start."""

    def after(self, earlier: "_Pending") -> "_Pending":
        """Both in one."""
        if self.is_whole:
            return self
        states, answers = earlier.states | self.states, earlier.answers | self.answers
        return _Pending(self.snapshot, states, answers, earlier.is_whole, self.count)


class SessionReplicator:
    """Writes what changed of one session, in order and in the background.

    The store holds a session as it was after one of its steps, never between two.  While it is down the
    session goes on, and is written when it is back: nobody can take it over meanwhile.  Used on one event
    loop only.
    """

    def __init__(
        self,
        shared: SessionStore,
        session: Session,
        owner: Owner,
        *,
        model_id: str,
        budget_bytes: int,
        is_kept: bool = False,
    ) -> None:
        """``is_kept`` says that the store has the session as it is now.

        Of states that went to the archive at most ``budget_bytes`` are kept, the newest.
        """
        self._shared = shared
        self._session = session
        self._owner = owner
        self._model_id = model_id
        self._budget_bytes = budget_bytes
        self._known: dict[StateKey, FrameState] = states_in_memory(session) if is_kept else {}
        self._answers = {a.key: a for a in session.answers.entries()} if is_kept else {}
        # States that are in the archive and in the store, and their sizes, the oldest first.
        self._archived: dict[StateKey, int] = {}
        if is_kept:
            typical = max((s.num_bytes for s in self._known.values()), default=0)
            self._archived = dict.fromkeys(archived_keys(session), typical)
        self._pending: _Pending | None = None
        self._noted = 0
        self._written = 0
        self._is_down = False
        self._stale: StaleEpoch | None = None
        self._has_work = asyncio.Event()
        self._changed = asyncio.Condition()
        self._writer = asyncio.ensure_future(self._write())
        if not is_kept:
            self.note(is_whole=True)

    @property
    def is_stale(self) -> bool:
        """Whether somebody else owns the session by now."""
        return self._stale is not None

    def note(self, *, is_whole: bool = False) -> None:
        """Write the session as it is now, soon; the caller holds its lock."""
        self._noted += 1
        snapshot = session_to_proto(self._session, self._model_id)
        pending = _Pending(snapshot, self._differences(), self._new_answers(), is_whole, self._noted)
        self._pending = pending if self._pending is None else pending.after(self._pending)
        self._has_work.set()

    async def flush(self) -> None:
        """Wait until all that was noted is written.  Raises StaleEpoch where somebody else owns the session.

        Where the store is down nothing is waited for.
        """
        await self._until(self._noted)

    async def make_room(self) -> None:
        """Wait until another frame may be tracked.  Raises as :meth:`flush` does."""
        await self._until(self._noted - MAX_BEHIND + 1)

    async def confirm(self) -> None:
        """Raises StaleEpoch where somebody else owns the session by now: nothing may be answered then."""
        if self._stale is None:
            try:
                epoch = await self._shared.epoch(self._session.session_id)
            except StoreDown:
                return
            if epoch is not None and epoch > self._owner.epoch:
                await self._lose(epoch)
        if self._stale is not None:
            raise self._stale

    async def close(self) -> None:
        """Stop; what is noted and not written is not."""
        await stop(self._writer)

    def _differences(self) -> dict[StateKey, FrameState | None]:
        """What changed since this was asked last."""
        current = states_in_memory(self._session)
        found: dict[StateKey, FrameState | None] = {
            key: state for key, state in current.items() if self._known.get(key) is not state
        }
        for key, state in self._known.items():
            if key not in current:
                # From memory it goes to the archive, if there is one; what became of it there is seen below.
                self._archived[key] = state.num_bytes
        self._known = current
        for key in self._changed_in_archive():
            tracked = self._session.objects[key.obj_id].bank.tracked if self._is_archived(key) else None
            found[key] = None if tracked is None else tracked.get(key.frame_index)
        for key in [k for k in self._archived if k in current or found.get(k, ...) is None]:
            del self._archived[key]
        excess = sum(self._archived.values()) - self._budget_bytes
        while excess > 0:
            key = next(iter(self._archived))
            excess -= self._archived.pop(key)
            found[key] = None
        return found

    def _new_answers(self) -> dict[str, KeyedAnswer | None]:
        """Answers that came since this was asked last, and None for those that were forgotten."""
        current = {answer.key: answer for answer in self._session.answers.entries()}
        found: dict[str, KeyedAnswer | None] = dict.fromkeys(k for k in self._answers if k not in current)
        found |= {key: answer for key, answer in current.items() if key not in self._answers}
        self._answers = current
        return found

    def _changed_in_archive(self) -> list[StateKey]:
        """States that are not in memory and were cleared or forgotten, or may have been."""
        touched = {
            StateKey(obj.obj_id, index, TRACKED)
            for obj in self._session.objects.values()
            for index in obj.bank.tracked.take_touched()
        }
        return [k for k in self._archived if k in touched or not self._is_archived(k)]

    def _is_archived(self, key: StateKey) -> bool:
        """Whether a state that is not in memory can be in the archive."""
        return key.kind == TRACKED and key.obj_id in self._session.objects and not self._session.is_live

    async def _until(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._written >= count or self._is_down or self._stale is not None
            )
        if self._stale is not None:
            raise self._stale

    async def _write(self) -> None:
        try:
            await self._write_on()
        except Exception:
            # Nobody must wait for what never comes; the session goes on as if the store were down.
            logger.exception("session %s is kept no longer", self._session.session_id)
            self._is_down = True
            await self._notify()

    async def _write_on(self) -> None:
        while True:
            await self._has_work.wait()
            if (pending := self._pending) is None:
                self._has_work.clear()
                continue
            self._pending = None
            try:
                written = await self._shared.write(
                    self._session.session_id,
                    self._owner,
                    self._session.ttl_seconds,
                    await asyncio.to_thread(_to_change, pending),
                )
            except StoreDown:
                self._pending = pending if self._pending is None else self._pending.after(pending)
                self._is_down = True
                await self._notify()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._is_down = False
            if written is WriteResult.STALE:
                await self._lose(None)
                return
            if written is WriteResult.ABSENT:
                logger.warning("session %s is written anew: the store has lost it", self._session.session_id)
                self._begin_anew(pending)
                continue
            self._written = pending.count
            await self._notify()

    def _begin_anew(self, pending: _Pending) -> None:
        """All is written again that is in memory."""
        self._archived.clear()
        latest = pending if self._pending is None else self._pending
        self._pending = _Pending(latest.snapshot, dict(self._known), dict(self._answers), True, latest.count)

    async def _lose(self, epoch: int | None) -> None:
        self._stale = StaleEpoch(
            "the session has another owner",
            session_id=self._session.session_id,
            epoch=self._owner.epoch if epoch is None else epoch,
        )
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _to_change(pending: _Pending) -> Change:
    """On a thread: tensors are copied."""
    fields: dict[str, bytes] = {}
    deleted: list[str] = []
    for key, state in pending.states.items():
        if state is None:
            deleted.append(str(key))
        else:
            fields[str(key)] = state_to_proto(key, state).SerializeToString()
    for name, answer in pending.answers.items():
        if answer is None:
            deleted.append(f"{ANSWER}{name}")
        else:
            fields[f"{ANSWER}{name}"] = answer_to_proto(answer).SerializeToString()
    return Change(pending.snapshot.SerializeToString(), fields, deleted, pending.is_whole)


def read_stored(kept: StoredSession) -> tuple[snapshot_pb2.SessionSnapshot, list[bytes]]:
    """A session as it was kept, with its answers, and its states."""
    snapshot = snapshot_pb2.SessionSnapshot.FromString(kept.snapshot)
    states = []
    for name, content in kept.fields.items():
        if name.startswith(ANSWER):
            snapshot.answers.append(snapshot_pb2.KeyedAnswer.FromString(content))
        else:
            states.append(content)
    return snapshot, states
