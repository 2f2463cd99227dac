"""One session of the tracker: its objects, their prompts and history, and its lock."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import Message

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
    Unavailable,
)
from maskmesh.history import ClearRecord, PromptRecord, RemovalRecord
from maskmesh.leases import Lease
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.types import EmbeddingRef, Prompt
from tracker_svc.memory.archive import SessionArchive
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import MemoryBank
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.sessions.history import History
from tracker_svc.sessions.limits import SessionLimits
from tracker_svc.sessions.replicator import Replicator
from tracker_svc.sessions.session_concepts import SessionConcepts

# A live session has no archive, so it holds this many more frames in memory for corrections and resumption.
LIVE_HORIZON = 16


class Position(NamedTuple):
    """The progress of a propagation: the last frame that it has tracked and memorized."""

    propagation_id: str
    frame_index: int


@dataclass(slots=True, eq=False)
class Session(Lease):
    """The tracking of objects in one video.

    Callers that read or change the objects must hold ``lock``, which is granted in order of arrival.
    """

    limits: SessionLimits = field(default_factory=SessionLimits)
    archive: SessionArchive | None = None
    """Holds older tracked frames; None for a live session, which needs recent frames only."""
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    """By ``obj_id``, in the order in which they were added."""
    concepts: SessionConcepts = field(init=False)
    prompted_refs: dict[int, EmbeddingRef] = field(default_factory=dict)
    """References to the embeddings of prompted frames that are not memorized yet."""
    revision: int = 0
    """Number of changes of objects and prompts."""
    history: History = field(init=False)
    answers: IdempotencyCache = field(default_factory=IdempotencyCache)
    """Responses to changes that had an idempotency key."""
    epoch: int = 0
    """The ownership epoch: 1 for the first owner; 0 for a session that never moves."""
    replicator: Replicator = field(default_factory=Replicator)
    position: Position | None = None
    """The progress of the last propagation that has an id."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_propagating: bool = False
    """Whether a propagation is open."""
    has_ended: bool = False
    was_exported: bool = False
    """Whether another tracker was sent the whole session: changes here would be lost."""

    def __post_init__(self) -> None:
        self.history = History(max_entries=self.limits.max_history)
        self.concepts = SessionConcepts(self.session_id)

    def require_open(self) -> None:
        """Renew the lease of a session in use.  Raises SessionNotFound if the session has ended."""
        if self.has_ended or self.is_expired:
            raise SessionNotFound("the session has ended", session_id=self.session_id)
        if self.was_exported:
            raise Unavailable("the session moves to another tracker", service="tracker", draining="true")
        self.renew()

    def record_change(self, idempotency_key: str, response: Message) -> None:
        """Record a change that was made under the session's lock, and the response to it."""
        self.answers.commit(idempotency_key, response)
        self.replicator.enqueue()

    async def flush(self, recorder: telemetry.StageRecorder) -> None:
        """Wait as :meth:`flushed` does, as a ``queue`` stage."""
        start = time.time_ns()
        await self.flushed()
        recorder.wait(start, time.time_ns(), "session_store")

    async def flushed(self) -> None:
        """Wait until recorded changes are stored.

        Raises StaleEpoch, and SessionNotFound if the session has ended meanwhile: its changes were not
        stored, and the caller repeats the call where the session is now.
        """
        await self.replicator.flush()
        if self.has_ended:
            raise SessionNotFound("the session has ended", session_id=self.session_id)

    @contextlib.asynccontextmanager
    async def locked(self, recorder: telemetry.StageRecorder) -> AsyncIterator[None]:
        """Hold ``lock``; the wait for it is recorded as a ``queue`` stage."""
        start = time.time_ns()
        async with self.lock:
            recorder.wait(start, time.time_ns(), "session")
            yield

    @contextlib.contextmanager
    def propagating(self) -> Iterator[None]:
        """Mark the session as propagating.  Raises SessionBusy if a propagation is open already."""
        if self.is_propagating:
            raise SessionBusy("the session is already propagating", session_id=self.session_id)
        self.is_propagating = True
        try:
            yield
        finally:
            self.is_propagating = False

    @property
    def is_live(self) -> bool:
        """Whether the session tracks a live stream, which has no archive and may be without objects."""
        return self.archive is None

    def check_prompted(self) -> None:
        """Raises NothingPrompted if the session has no object and no concept; live sessions may have none."""
        if not self.objects and not self.concepts.searching and not self.is_live:
            raise NothingPrompted("no object has been prompted yet", session_id=self.session_id)

    def first_prompted_frame(self) -> int:
        """The earliest frame on which an object is prompted, or a concept was added, 0 for none.

        Raises NothingPrompted.
        """
        self.check_prompted()
        objects = self.objects.values()
        frames = [frame for o in objects for frame in o.prompts]
        frames += [o.found_frame for o in objects if o.found_frame is not None]
        return min((*frames, *self.concepts.first_frames()), default=0)

    @property
    def obj_ids(self) -> list[int]:
        """The objects that the client knows, in the order in which they were added."""
        return [obj_id for obj_id, obj in self.objects.items() if not obj.is_dismissed]

    def states_on(self, frame_index: int) -> dict[int, FrameState]:
        """The states of its objects on a frame, by ``obj_id``; objects without a state there are left out."""
        objects = [obj for obj in self.objects.values() if not obj.is_dismissed]
        states = {o.obj_id: o.bank.current(frame_index) for o in objects}
        return {obj_id: state for obj_id, state in states.items() if state is not None}

    def found_nothing_on(self, frame_index: int, *, reverse: bool) -> bool:
        """Whether concepts were followed up to a frame or further, and the states of all objects there are
        held.
        """
        lasts = [concept.life.last_frame for concept in self.concepts.searching]
        if not lasts or any(obj.bank.is_forgotten(frame_index) for obj in self.objects.values()):
            return False
        step = -1 if reverse else 1
        return all(last is not None and (last - frame_index) * step >= 0 for last in lasts)

    def pending_frames(self) -> list[int]:
        """Prompted frames that are not memorized yet, in order."""
        return sorted({f for o in self.objects.values() for f in o.bank.prompted})

    def check_revision(self, expected: int | None) -> None:
        """Raises Conflict if ``expected`` is not None and not the session's revision."""
        if expected is not None and expected != self.revision:
            raise Conflict(
                f"the session has revision {self.revision}, not {expected}",
                field="expected_revision",
                revision=self.revision,
            )

    def find(self, obj_id: int) -> TrackedObject:
        """Returns an object.  Raises ObjectNotFound."""
        if obj_id not in self.objects or self.objects[obj_id].is_dismissed:
            raise ObjectNotFound(
                f"the session has no object {obj_id}", session_id=self.session_id, obj_id=obj_id
            )
        return self.objects[obj_id]

    def find_or_make(self, obj_id: int) -> TrackedObject:
        """Returns an object, or a new one that may be added.

        Raises ResourceExhausted if there are too many, ObjectNotFound if the number belongs to a concept that
        has no such object.
        """
        if obj_id in self.objects or self.concepts.numbers(obj_id):
            return self.find(obj_id)
        if len(self.obj_ids) >= self.limits.max_objects:
            raise ResourceExhausted("the session has the maximum number of objects", resource="objects")
        return self.make(obj_id)

    def make(self, obj_id: int) -> TrackedObject:
        """Create an object without adding it to the session."""
        recent = self.limits.recent_frames + (LIVE_HORIZON if self.is_live else 0)
        bank = MemoryBank(obj_id, self.archive, max_recent=recent, rules=self.limits.memory_rules)
        return TrackedObject(obj_id, bank)

    def require_prompt_slot(self, obj: TrackedObject, frame_index: int) -> None:
        """Raises ResourceExhausted if the object has the maximum number of prompted frames, or the history
        is full.
        """
        self.history.check_room()
        if frame_index not in obj.prompts and len(obj.prompts) >= self.limits.max_prompted_frames:
            raise ResourceExhausted("the object is prompted on too many frames", resource="prompts")

    def add_prompt(
        self, obj: TrackedObject, record: PromptRecord, combined: Prompt, state: FrameState, ref: EmbeddingRef
    ) -> None:
        """Add a prompt and the state that results from it; cannot fail."""
        self.objects[obj.obj_id] = obj
        obj.prompts[record.frame_index] = combined
        obj.bank.prompt(record.frame_index, state)
        self.prompted_refs[record.frame_index] = ref
        self.history.add(record)
        self.revision += 1

    def clear_prompts(self, obj_id: int, frame_index: int) -> None:
        """Remove the prompts of an object on a frame; an object without prompts is removed, unless a concept
        found it.

        Raises ObjectNotFound, PromptNotFound, and InvalidRequest if a found object would have no frame to be
        tracked from.
        """
        obj = self.find(obj_id)
        if frame_index not in obj.prompts:
            raise PromptNotFound(
                f"object {obj_id} is not prompted on frame {frame_index}",
                obj_id=obj_id,
                frame_index=frame_index,
            )
        if obj.is_found:
            if not obj.bank.is_conditioned_without(frame_index):
                raise InvalidRequest(
                    f"object {obj_id} is tracked from frame {frame_index} alone; RemoveObject removes it",
                    field="frame_index",
                )
        elif len(obj.prompts) == 1:
            self.remove_object(obj_id)
            return
        self.history.check_room()
        del obj.prompts[frame_index]
        obj.bank.remove_prompt(frame_index)
        self._drop_refs()
        self.history.add(ClearRecord(frame_index, obj_id))
        self.revision += 1

    def remove_object(self, obj_id: int) -> None:
        """Remove one object.  One that a concept would find again is dismissed.  Raises ObjectNotFound."""
        obj = self.find(obj_id)
        concept = None if obj.concept_id is None else self.concepts.by_id.get(obj.concept_id)
        if obj.is_found:
            self.history.check_room()
            self.history.add(RemovalRecord(obj_id, obj.concept_id))
        else:
            self.history.remove_object(obj_id)
        if concept is not None and concept.searches:
            obj.is_dismissed = True
        else:
            self.drop_object(obj_id)
        self.revision += 1

    def drop_object(self, obj_id: int) -> None:
        """Remove an object and its states, but not its history."""
        if self.archive is not None:
            self.archive.delete(obj_id)
        del self.objects[obj_id]
        for concept in self.concepts.searching:
            concept.life.remove(obj_id)
        self._drop_refs()

    def reset(self) -> None:
        """Remove all objects and concepts."""
        if self.archive is not None:
            for obj_id in self.objects:
                self.archive.delete(obj_id)
        self.objects.clear()
        self.concepts.clear()
        self.position = None
        self.prompted_refs.clear()
        self.history.clear()
        self.revision += 1

    def _drop_refs(self) -> None:
        pending = set(self.pending_frames())
        self.prompted_refs = {f: r for f, r in self.prompted_refs.items() if f in pending}
