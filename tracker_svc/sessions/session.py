"""Sessions as leases: objects, order, and an end for those that nobody uses."""

import asyncio
import contextlib
import logging
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from maskmesh import telemetry
from maskmesh.errors import (
    Conflict,
    InvalidRequest,
    NothingPrompted,
    ObjectNotFound,
    PromptNotFound,
    ResourceExhausted,
    SessionBusy,
    SessionNotFound,
)
from maskmesh.history import ClearRecord, PromptRecord
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.types import EmbeddingRef, Prompt
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import MIN_RECENT_FRAMES, MemoryBank
from tracker_svc.sessions.history import History
from tracker_svc.sessions.objects import TrackedObject

logger = logging.getLogger(__name__)

# A live session has no archive: so many frames back it may be corrected, or resumed, from memory alone.
LIVE_REACH = 16


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session may hold."""

    max_objects: int = 64
    max_prompted_frames: int = 256
    """Of one object: each counts on every frame."""
    max_history: int = 10_000
    disk_bytes: int = 2**33
    recent_frames: int = MIN_RECENT_FRAMES
    """Tracked frames of one object in memory."""


class Position(NamedTuple):
    """How far a stream of frames came: the last frame that was tracked in it and is remembered."""

    propagation_id: str
    frame_index: int


@dataclass(slots=True, eq=False)
class Session:
    """One video.  Everything that reads or changes its objects holds ``lock``, which serves in order."""

    session_id: str
    ttl_seconds: float
    limits: SessionLimits = field(default_factory=SessionLimits)
    archive: SessionArchive | None = None
    """Where tracked frames go that no longer count; None in a live session, which does not go back."""
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    """By ``obj_id``, in the order in which they were added."""
    prompted_refs: dict[int, EmbeddingRef] = field(default_factory=dict)
    """Where the embeddings of prompted frames are that are not memorized yet."""
    revision: int = 0
    """Counts the changes of objects and prompts."""
    history: History = field(init=False)
    answers: IdempotencyCache = field(default_factory=IdempotencyCache)
    """To changes that were asked for with an idempotency key."""
    epoch: int = 0
    """Counts the owners; 0 for a session that nobody moves."""
    position: Position | None = None
    """Where the last stream of frames is that has a name."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    expires: float = 0.0
    is_propagating: bool = False
    """Whether it has a stream of frames."""

    def __post_init__(self) -> None:
        self.history = History(max_entries=self.limits.max_history)

    def renew(self) -> None:
        """Begin the lease anew."""
        self.expires = time.monotonic() + self.ttl_seconds

    @contextlib.asynccontextmanager
    async def in_turn(self, recorder: telemetry.StageRecorder) -> AsyncIterator[None]:
        """Hold ``lock``; the wait for it is recorded as a ``queue`` stage."""
        start = time.time_ns()
        async with self.lock:
            recorder.add(telemetry.QUEUE, start, time.time_ns(), {telemetry.WAITS_FOR: "session"})
            yield

    @contextlib.contextmanager
    def propagating(self) -> Iterator[None]:
        """Hold the session's one place for a propagation.  Raises SessionBusy where it is taken."""
        if self.is_propagating:
            raise SessionBusy("the session is already propagating", session_id=self.session_id)
        self.is_propagating = True
        try:
            yield
        finally:
            self.is_propagating = False

    @property
    def is_live(self) -> bool:
        """Whether it follows live video: it does not go back, and may be without objects for a while."""
        return self.archive is None

    def check_prompted(self) -> None:
        """Raises NothingPrompted where there is no object, but for live video."""
        if not self.objects and not self.is_live:
            raise NothingPrompted("no object has been prompted yet", session_id=self.session_id)

    def first_prompted_frame(self) -> int:
        """The earliest frame on which an object is prompted, 0 for none.  Raises NothingPrompted."""
        self.check_prompted()
        return min((frame for o in self.objects.values() for frame in o.prompts), default=0)

    def states_on(self, frame_index: int) -> dict[int, FrameState]:
        """What is known of its objects on a frame, by ``obj_id``; nothing of those of which nothing is."""
        known = {o.obj_id: o.bank.current(frame_index) for o in self.objects.values()}
        return {obj_id: state for obj_id, state in known.items() if state is not None}

    def is_conditioning(self, frame_index: int) -> bool:
        """Whether a frame is a conditioning frame of one of its objects."""
        return any(frame_index in o.bank.conditioning for o in self.objects.values())

    def pending_frames(self) -> list[int]:
        """Prompted frames that are not memorized yet, in order."""
        return sorted({f for o in self.objects.values() for f in o.bank.prompted})

    def check_revision(self, expected: int | None) -> None:
        """Raises Conflict where the session has another revision than a caller expects."""
        if expected is not None and expected != self.revision:
            raise Conflict(
                f"the session has revision {self.revision} by now",
                field="expected_revision",
                revision=self.revision,
            )

    def find(self, obj_id: int) -> TrackedObject:
        """An object.  Raises ObjectNotFound."""
        if obj_id not in self.objects:
            raise ObjectNotFound(
                f"the session has no object {obj_id}", session_id=self.session_id, obj_id=obj_id
            )
        return self.objects[obj_id]

    def find_or_make(self, obj_id: int) -> TrackedObject:
        """An object that is in the session, or one that may be added.  Raises ResourceExhausted."""
        if obj_id in self.objects:
            return self.objects[obj_id]
        if len(self.objects) >= self.limits.max_objects:
            raise ResourceExhausted("the session is full", resource="objects")
        return self.make(obj_id)

    def make(self, obj_id: int) -> TrackedObject:
        """An object without anything, which is not in the session yet."""
        recent = self.limits.recent_frames + (LIVE_REACH if self.is_live else 0)
        return TrackedObject(obj_id, MemoryBank(obj_id, self.archive, max_recent=recent))

    def check_promptable(self, obj: TrackedObject, frame_index: int) -> None:
        """Raises ResourceExhausted where an object is prompted on as many frames as it may be."""
        self.history.check_room()
        if frame_index not in obj.prompts and len(obj.prompts) >= self.limits.max_prompted_frames:
            raise ResourceExhausted("the object is prompted on too many frames", resource="prompts")

    def add_prompt(
        self, obj: TrackedObject, said: PromptRecord, combined: Prompt, state: FrameState, ref: EmbeddingRef
    ) -> None:
        """Take in a prompt and its outcome; nothing here can fail."""
        self.objects[obj.obj_id] = obj
        obj.prompts[said.frame_index] = combined
        obj.bank.prompt(said.frame_index, state)
        self.prompted_refs[said.frame_index] = ref
        self.history.add(said)
        self.revision += 1

    def clear_prompts(self, obj_id: int, frame_index: int) -> None:
        """Forget what was said of an object on a frame; with nothing said any more the object goes too.

        Raises ObjectNotFound, PromptNotFound.
        """
        obj = self.find(obj_id)
        if frame_index not in obj.prompts:
            raise PromptNotFound(
                f"object {obj_id} is not prompted on frame {frame_index}",
                obj_id=obj_id,
                frame_index=frame_index,
            )
        if len(obj.prompts) == 1:
            self.remove_object(obj_id)
            return
        self.history.check_room()
        del obj.prompts[frame_index]
        obj.bank.remove_prompt(frame_index)
        self._forget_refs()
        self.history.add(ClearRecord(frame_index, obj_id))
        self.revision += 1

    def remove_object(self, obj_id: int) -> None:
        """Forget one object.  Raises ObjectNotFound."""
        self.find(obj_id)
        if self.archive is not None:
            self.archive.delete(obj_id)
        del self.objects[obj_id]
        self._forget_refs()
        self.history.remove_object(obj_id)
        self.revision += 1

    def reset(self) -> None:
        """Forget all objects."""
        if self.archive is not None:
            for obj_id in self.objects:
                self.archive.delete(obj_id)
        self.objects.clear()
        self.prompted_refs.clear()
        self.history.clear()
        self.revision += 1

    def _forget_refs(self) -> None:
        pending = set(self.pending_frames())
        self.prompted_refs = {f: r for f, r in self.prompted_refs.items() if f in pending}


class SessionTable:
    """The sessions of one tracker, whose archives are in ``folder``.  Used on one event loop only."""

    def __init__(
        self,
        *,
        max_sessions: int,
        ttl_seconds: float,
        limits: SessionLimits,
        folder: Path,
        device: torch.device,
    ) -> None:
        self._max_sessions = max_sessions
        self._ttl_seconds = ttl_seconds
        self._limits = limits
        self._folder = folder
        self._device = device
        self._sessions: dict[str, Session] = {}
        self.on_end: Callable[[Session], None] = lambda session: None
        """Told of each session that ends here."""
        self._closer = ThreadPoolExecutor(1, thread_name_prefix="after-sessions")

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def num_propagating(self) -> int:
        """How many sessions have a stream of frames."""
        return sum(session.is_propagating for session in self._sessions.values())

    def create(self, session_id: str, ttl_seconds: float = 0.0, *, live: bool = False) -> Session:
        """Begin a session; ``ttl_seconds`` of 0 means the longest that is allowed.

        Raises InvalidRequest for an id that is empty or taken, ResourceExhausted at the limit.
        """
        self._check_new(session_id)
        session = self.make(session_id, ttl_seconds, live=live)
        self.admit(session)
        return session

    def make(self, session_id: str, ttl_seconds: float = 0.0, *, live: bool = False) -> Session:
        """A session that nobody can find yet; :meth:`admit` lets it be found."""
        archive = None
        if not live:
            # The id is the caller's, and no name for a file.
            path = self._folder / f"{uuid.uuid4().hex}.sqlite"
            archive = SessionArchive(session_id, path, max_bytes=self._limits.disk_bytes, device=self._device)
        ttl = min(ttl_seconds or self._ttl_seconds, self._ttl_seconds)
        return Session(session_id, ttl, self._limits, archive)

    def admit(self, session: Session) -> None:
        """Begin the lease of a session.  Raises as :meth:`create` does."""
        self._check_new(session.session_id)
        session.renew()
        self._sessions[session.session_id] = session

    def find_unrenewed(self, session_id: str) -> Session | None:
        """A session if it is here; its lease goes on as before."""
        session = self._sessions.get(session_id)
        return None if session is None or session.expires <= time.monotonic() else session

    def drop(self, session_id: str) -> None:
        """End a session here, if it is here."""
        self._end(session_id)

    def get(self, session_id: str) -> Session:
        """Find a session and renew its lease.  Raises SessionNotFound."""
        session = self._sessions.get(session_id)
        if session is None or session.expires <= time.monotonic():
            self._end(session_id)
            raise SessionNotFound("there is no such session", session_id=session_id)
        session.renew()
        return session

    def delete(self, session_id: str) -> None:
        """End a session.  Raises SessionNotFound."""
        self.get(session_id)
        self._end(session_id)

    def sweep(self) -> int:
        """End the sessions whose leases are over; returns how many there were."""
        now = time.monotonic()
        expired = [i for i, s in self._sessions.items() if s.expires <= now]
        for session_id in expired:
            self._end(session_id)
        return len(expired)

    def close(self) -> None:
        """Wait until everything of the sessions that ended is deleted."""
        self._closer.shutdown()

    def _check_new(self, session_id: str) -> None:
        self.sweep()
        if not session_id or session_id in self._sessions:
            raise InvalidRequest("a session needs a new id", field="session_id")
        if len(self._sessions) >= self._max_sessions:
            raise ResourceExhausted(
                f"{self._max_sessions} sessions are open", resource="sessions", retry_seconds=5.0
            )

    def _end(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        self.on_end(session)
        self.free(session)

    def free(self, session: Session) -> None:
        """Delete what a session has on disk."""
        if session.archive is not None:
            # Not on the event loop: a large file takes its time.
            self._closer.submit(_close, session.archive)


def _close(archive: SessionArchive) -> None:
    try:
        archive.close()
    except (OSError, sqlite3.Error) as error:
        logger.warning("an archive is left on disk: %s", error)
