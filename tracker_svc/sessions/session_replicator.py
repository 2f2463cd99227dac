"""Write-behind replication of a session to the store, from which another tracker can take it over."""

import asyncio
import logging

from maskmesh.aio import stop
from maskmesh.errors import StaleEpoch
from maskmesh.rpc.idempotency import KeyedResponse
from maskmesh.storage.redis_store import PAUSE_SECONDS, StoreDown
from maskmesh.storage.session_record import Owner, WriteResult
from maskmesh.storage.session_store import SessionStore
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.sessions.replicator import Replicator
from tracker_svc.sessions.session import Session
from tracker_svc.sessions.session_delta import PendingWrite, to_delta
from tracker_svc.sessions.snapshot import (
    TRACKED,
    StateKey,
    archived_keys,
    session_to_proto,
    states_in_memory,
)

logger = logging.getLogger(__name__)

# Maximum replication lag in tracked frames; the next owner tracks the missing frames again.
MAX_LAG = 8


class SessionReplicator(Replicator):
    """Writes the changes of one session to the store, in order and in the background.

    The store has the state after a completed step, never a partial step.  While the store is down, the
    session continues, because no other tracker can take it over; it is written when the store is reachable
    again.  Used on one event loop only.
    """

    def __init__(
        self,
        store: SessionStore,
        session: Session,
        owner: Owner,
        *,
        model_id: str,
        budget_bytes: int,
        is_stored: bool = False,
    ) -> None:
        """``is_stored`` is whether the store has the session's current state.

        The store keeps the newest ``budget_bytes`` of the archived states.
        """
        self._store = store
        self._session = session
        self._owner = owner
        self._model_id = model_id
        self._budget_bytes = budget_bytes
        self._enqueued_states: dict[StateKey, FrameState] = states_in_memory(session) if is_stored else {}
        self._enqueued_responses = {r.key: r for r in session.answers.entries()} if is_stored else {}
        # States that are in the archive and in the store, and their sizes, the oldest first.
        self._archived: dict[StateKey, int] = {}
        if is_stored:
            estimated_bytes = max((s.num_bytes for s in self._enqueued_states.values()), default=0)
            self._archived = dict.fromkeys(archived_keys(session), estimated_bytes)
        self._pending: PendingWrite | None = None
        self._num_enqueued = 0
        self._num_written = 0
        self._is_down = False
        self._is_closed = False
        self._stale: StaleEpoch | None = None
        self._has_work = asyncio.Event()
        self._changed = asyncio.Condition()
        self._writer = asyncio.ensure_future(self._write())
        if not is_stored:
            self._enqueue(is_full=True)

    @property
    def is_stale(self) -> bool:  # type: ignore[override]
        """Whether another tracker owns the session now."""
        return self._stale is not None

    def enqueue(self) -> None:
        self._enqueue(is_full=False)

    async def flush(self) -> None:
        """Wait as :meth:`Replicator.flush` does; returns at once while the store is down."""
        await self._wait_written(self._num_enqueued)

    async def wait_for_room(self) -> None:
        await self._wait_written(self._num_enqueued - MAX_LAG + 1)

    async def confirm(self) -> bool:
        if self._stale is None:
            try:
                epoch = await self._store.epoch(self._session.session_id)
            except StoreDown:
                return True
            if epoch is not None and epoch > self._owner.epoch:
                await self._set_stale(epoch)
        if self._stale is not None:
            raise self._stale
        return True

    async def close(self) -> None:
        self._is_closed = True
        await stop(self._writer)
        await self._notify()

    def _enqueue(self, *, is_full: bool) -> None:
        self._num_enqueued += 1
        snapshot = session_to_proto(self._session, self._model_id)
        states, responses = self._changed_states(), self._changed_responses()
        pending = PendingWrite(snapshot, states, responses, is_full, self._num_enqueued)
        self._pending = pending if self._pending is None else pending.after(self._pending)
        self._has_work.set()

    def _changed_states(self) -> dict[StateKey, FrameState | None]:
        """The states that changed since the last call; None for deleted states."""
        current = states_in_memory(self._session)
        changed: dict[StateKey, FrameState | None] = {
            key: state for key, state in current.items() if self._enqueued_states.get(key) is not state
        }
        for key, state in self._enqueued_states.items():
            if key not in current:
                # A state that is no longer in memory was moved to the archive or deleted, which is checked
                # below.
                self._archived[key] = state.num_bytes
        self._enqueued_states = current
        for key in self._released_keys():
            released = self._tracked(key)
            if key not in current and released is not None:
                changed[key] = released
                self._archived[key] = released.num_bytes
        for key in self._changed_in_archive():
            changed[key] = self._tracked(key) if self._is_archived(key) else None
        for key in [k for k in self._archived if k in current or changed.get(k, ...) is None]:
            del self._archived[key]
        excess_bytes = sum(self._archived.values()) - self._budget_bytes
        while excess_bytes > 0:
            key = next(iter(self._archived))
            excess_bytes -= self._archived.pop(key)
            changed[key] = None
        return changed

    def _changed_responses(self) -> dict[str, KeyedResponse | None]:
        """The responses that were added since the last call; None for those that were dropped."""
        current = {response.key: response for response in self._session.answers.entries()}
        enqueued = self._enqueued_responses
        changed: dict[str, KeyedResponse | None] = dict.fromkeys(k for k in enqueued if k not in current)
        changed |= {key: response for key, response in current.items() if key not in enqueued}
        self._enqueued_responses = current
        return changed

    def _tracked(self, key: StateKey) -> FrameState | None:
        return self._session.objects[key.obj_id].bank.tracked.get(key.frame_index)

    def _released_keys(self) -> list[StateKey]:
        objects = self._session.objects.values()
        return [StateKey(o.obj_id, i, TRACKED) for o in objects for i in o.bank.tracked.take_released()]

    def _changed_in_archive(self) -> list[StateKey]:
        """States outside memory that were or may have been cleared or deleted."""
        touched = {
            StateKey(obj.obj_id, index, TRACKED)
            for obj in self._session.objects.values()
            for index in obj.bank.tracked.take_touched()
        }
        return [k for k in self._archived if k in touched or not self._is_archived(k)]

    def _is_archived(self, key: StateKey) -> bool:
        """Whether a state that is not in memory can be in the archive."""
        return key.kind == TRACKED and key.obj_id in self._session.objects and not self._session.is_live

    async def _wait_written(self, num_changes: int) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    self._num_written >= num_changes
                    or self._is_down
                    or self._is_closed
                    or self._stale is not None
                )
            )
        if self._stale is not None:
            raise self._stale

    async def _write(self) -> None:
        try:
            await self._write_pending()
        except Exception:
            # Callers of flush must not wait indefinitely; the session continues as if the store were down.
            logger.exception("session %s is no longer replicated", self._session.session_id)
            self._is_down = True
            await self._notify()

    async def _write_pending(self) -> None:
        while True:
            await self._has_work.wait()
            if (pending := self._pending) is None:
                self._has_work.clear()
                continue
            self._pending = None
            try:
                result = await self._store.write(
                    self._session.session_id,
                    self._owner,
                    self._session.ttl_seconds,
                    await asyncio.to_thread(to_delta, pending),
                )
            except StoreDown:
                self._pending = pending if self._pending is None else self._pending.after(pending)
                self._is_down = True
                await self._notify()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self._is_down = False
            if result is WriteResult.STALE:
                await self._set_stale(None)
                return
            if result is WriteResult.ABSENT:
                logger.warning("the store has lost session %s: it is written again", self._session.session_id)
                self._write_all_again(pending)
                continue
            self._num_written = pending.num_changes
            await self._notify()

    def _write_all_again(self, pending: PendingWrite) -> None:
        """Enqueue all responses, and the states that are in memory or were before they were offloaded."""
        self._archived.clear()
        offloaded = {
            StateKey(obj.obj_id, index, TRACKED): state
            for obj in self._session.objects.values()
            for index, state in obj.bank.tracked.newest_archived().items()
        }
        self._archived = {key: state.num_bytes for key, state in offloaded.items()}
        latest = pending if self._pending is None else self._pending
        self._pending = PendingWrite(
            latest.snapshot,
            {**offloaded, **self._enqueued_states},
            dict(self._enqueued_responses),
            is_full=True,
            num_changes=latest.num_changes,
        )

    async def _set_stale(self, epoch: int | None) -> None:
        self._stale = StaleEpoch(
            "the session has another owner",
            session_id=self._session.session_id,
            epoch=self._owner.epoch if epoch is None else epoch,
        )
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
