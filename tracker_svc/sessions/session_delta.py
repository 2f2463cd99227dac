"""Pending writes of a session, as they are stored and read back."""

from dataclasses import dataclass, field

from maskmesh.internal.v1 import snapshot_pb2
from maskmesh.rpc.idempotency import KeyedResponse
from maskmesh.storage.session_record import SessionDelta, StoredSession
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.sessions.snapshot import StateKey, response_to_proto, state_to_proto

# Responses are stored among the states, under this prefix and their idempotency key.
RESPONSE_PREFIX = "answer."


@dataclass(slots=True)
class PendingWrite:
    """A pending write: the snapshot, and the states and responses that changed; None if they were
    deleted.
    """

    snapshot: snapshot_pb2.SessionSnapshot
    states: dict[StateKey, FrameState | None] = field(default_factory=dict)
    responses: dict[str, KeyedResponse | None] = field(default_factory=dict)
    """By idempotency key."""
    is_full: bool = False
    """Whether the write replaces all data of the session in the store."""
    num_changes: int = 0
    """Number of changes enqueued since the start, up to this one."""

    def after(self, earlier: "PendingWrite") -> "PendingWrite":
        """This write and an ``earlier`` one, merged."""
        if self.is_full:
            return self
        states, responses = earlier.states | self.states, earlier.responses | self.responses
        return PendingWrite(self.snapshot, states, responses, earlier.is_full, self.num_changes)


def to_delta(pending: PendingWrite) -> SessionDelta:
    """Serialise a pending write; runs on a thread, because tensors are copied."""
    fields: dict[str, bytes] = {}
    deleted: list[str] = []
    for key, state in pending.states.items():
        if state is None:
            deleted.append(str(key))
        else:
            fields[str(key)] = state_to_proto(key, state).SerializeToString()
    for name, response in pending.responses.items():
        if response is None:
            deleted.append(f"{RESPONSE_PREFIX}{name}")
        else:
            fields[f"{RESPONSE_PREFIX}{name}"] = response_to_proto(response).SerializeToString()
    return SessionDelta(pending.snapshot.SerializeToString(), fields, deleted, pending.is_full)


def read_stored(stored: StoredSession) -> tuple[snapshot_pb2.SessionSnapshot, list[bytes]]:
    """The snapshot of a stored session, with its responses, and its serialised states."""
    snapshot = snapshot_pb2.SessionSnapshot.FromString(stored.snapshot)
    states = []
    for name, content in stored.fields.items():
        if name.startswith(RESPONSE_PREFIX):
            snapshot.answers.append(snapshot_pb2.KeyedAnswer.FromString(content))
        else:
            states.append(content)
    return snapshot, states
