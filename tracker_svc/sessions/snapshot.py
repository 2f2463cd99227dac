"""Lossless conversion of sessions to messages and back.

The session is one message, and each state of an object on a frame is a separate message, so that a changed
state is written alone and no message grows with the length of the video.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from google.protobuf.message import Message
from torch import Tensor

from maskmesh import wire
from maskmesh.errors import InvalidRequest, ModelMismatch
from maskmesh.history import FrameRange
from maskmesh.internal.v1 import embedding_pb2, snapshot_pb2, tracker_pb2
from maskmesh.rpc.idempotency import KeyedResponse
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.memory.memory_bank import Run, VisitedFrames
from tracker_svc.memory.tensor_bytes import from_bytes, to_bytes
from tracker_svc.sessions.concept_snapshot import concept_from_proto, concept_to_proto
from tracker_svc.sessions.history import History
from tracker_svc.sessions.session import Position, Session

# The newest version of snapshots that this module reads.  Sessions with concepts have it; others have the one
# before, which earlier trackers read.
VERSION = 2

PROMPTED = snapshot_pb2.STATE_KIND_PROMPTED
CONDITIONING = snapshot_pb2.STATE_KIND_CONDITIONING
TRACKED = snapshot_pb2.STATE_KIND_TRACKED

_KINDS = {PROMPTED: "prompted", CONDITIONING: "conditioning", TRACKED: "tracked"}

# Types of responses that are stored for their idempotency keys.
_RESPONSES: Sequence[type[Message]] = (
    tracker_pb2.AddPromptResponse,
    tracker_pb2.ClearPromptsResponse,
    tracker_pb2.RemoveObjectResponse,
    tracker_pb2.ResetSessionResponse,
    tracker_pb2.AddConceptResponse,
    tracker_pb2.RemoveConceptResponse,
)

_DTYPES = {
    embedding_pb2.D_TYPE_FLOAT32: torch.float32,
    embedding_pb2.D_TYPE_BFLOAT16: torch.bfloat16,
    embedding_pb2.D_TYPE_FLOAT16: torch.float16,
}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}


class StateKey(NamedTuple):
    """The key of one state of a session."""

    obj_id: int
    frame_index: int
    kind: snapshot_pb2.StateKind

    def __str__(self) -> str:
        return f"{self.obj_id}.{self.frame_index}.{_KINDS[self.kind]}"


def states_in_memory(session: Session) -> dict[StateKey, FrameState]:
    """All states outside the archive."""
    states = {}
    for obj in session.objects.values():
        bank = obj.bank
        for kind, states_of_kind in (
            (PROMPTED, bank.prompted),
            (CONDITIONING, bank.conditioning),
            (TRACKED, bank.tracked.in_memory),
        ):
            for index, state in states_of_kind.items():
                states[StateKey(obj.obj_id, index, kind)] = state
    return states


def archived_keys(session: Session) -> list[StateKey]:
    """The keys of the states in the archive, in the order in which they were archived."""
    return [
        StateKey(obj.obj_id, index, TRACKED)
        for obj in session.objects.values()
        for index in obj.bank.tracked.archived_frames()
    ]


def archived_states(session: Session) -> Iterator[tuple[StateKey, FrameState]]:
    """The states in the archive."""
    for key in archived_keys(session):
        state = session.objects[key.obj_id].bank.tracked.get(key.frame_index)
        if state is not None:
            yield key, state


def session_to_proto(session: Session, model_id: str) -> snapshot_pb2.SessionSnapshot:
    """A session without its states and responses."""
    message = snapshot_pb2.SessionSnapshot(
        version=VERSION if session.concepts.has_any else 1,
        session_id=session.session_id,
        model_id=model_id,
        live=session.is_live,
        revision=session.revision,
        history=wire.history_to_proto(session.history.entries),
    )
    message.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
    for obj in session.objects.values():
        stored_object = message.objects.add(
            obj_id=obj.obj_id,
            prompted_frames=obj.bank.prompted,
            conditioning_frames=obj.bank.conditioning,
            recent_frames=obj.bank.tracked.in_memory,
            concept_id=obj.concept_id,
            concept_score=obj.concept_score,
            dismissed=obj.is_dismissed,
            found_frame=obj.found_frame,
            detected_frames=obj.bank.detected,
        )
        for index, prompt in obj.prompts.items():
            stored_object.prompts.add(frame_index=index, prompt=wire.prompt_to_proto(prompt))
        for first, last, reverse in obj.bank.visited.runs:
            frames = FrameRange(last, first, True) if reverse else FrameRange(first, last)
            stored_object.visited.append(wire.frame_range_to_proto(frames))
    if session.concepts.has_any:
        message.concepts.extend(map(concept_to_proto, session.concepts.by_id.values()))
        message.next_block = session.concepts.next_block
    for index, ref in session.prompted_refs.items():
        message.prompted_refs.add(frame_index=index, embedding=wire.embedding_ref_to_proto(ref))
    if session.position is not None:
        message.position.propagation_id, message.position.frame_index = session.position
    return message


def response_to_proto(response: KeyedResponse) -> snapshot_pb2.KeyedAnswer:
    """A response and its idempotency key."""
    message = snapshot_pb2.KeyedAnswer(key=response.key, request_digest=response.request_digest)
    message.answer.Pack(response.message)
    return message


def state_to_proto(key: StateKey, state: FrameState) -> snapshot_pb2.FrameState:
    """One state of an object on a frame."""
    message = snapshot_pb2.FrameState(
        obj_id=key.obj_id,
        frame_index=key.frame_index,
        kind=key.kind,
        predicted_iou=state.predicted_iou,
        object_score_logit=state.object_score_logit,
        low_res_masks=_tensor_to_proto(state.low_res_masks),
        concept_score=state.concept_score,
    )
    if state.object_pointer is not None:
        message.object_pointer.CopyFrom(_tensor_to_proto(state.object_pointer))
    if state.memory_features is not None:
        message.memory_features.CopyFrom(_tensor_to_proto(state.memory_features))
    return message


def check_snapshot(message: snapshot_pb2.SessionSnapshot, model_id: str) -> None:
    """Raises InvalidRequest if the version is not supported, ModelMismatch if the model is another one."""
    if not 1 <= message.version <= VERSION:
        raise InvalidRequest(
            f"the snapshot version {message.version} is not supported", field="session.version"
        )
    if message.model_id != model_id:
        raise ModelMismatch(
            "the session was created with another model",
            field="session.model_id",
            expected=model_id,
            actual=message.model_id,
        )


class Restorer:
    """Restores an exported session into a new, empty one."""

    def __init__(self, session: Session, message: snapshot_pb2.SessionSnapshot, device: torch.device) -> None:
        self._session = session
        self._message = message
        self._device = device
        self._states: dict[StateKey, FrameState] = {}
        self._recent = {o.obj_id: set(o.recent_frames) for o in message.objects}
        for stored_object in message.objects:
            obj = session.make(stored_object.obj_id)
            obj.prompts.update(
                {p.frame_index: wire.recorded_prompt_from_proto(p.prompt) for p in stored_object.prompts}
            )
            ranges = [wire.frame_range_from_proto(r) for r in stored_object.visited]
            obj.bank.visited = VisitedFrames([_run(frames) for frames in ranges])
            obj.concept_id = stored_object.concept_id if stored_object.HasField("concept_id") else None
            obj.concept_score = stored_object.concept_score
            obj.is_dismissed = stored_object.dismissed
            obj.found_frame = stored_object.found_frame if stored_object.HasField("found_frame") else None
            obj.bank.detected = set(stored_object.detected_frames)
            session.objects[stored_object.obj_id] = obj

    def add(self, message: snapshot_pb2.FrameState) -> None:
        """Add one state; archived states come in the order in which they were tracked.

        Raises InvalidRequest for a state that does not belong to the session.
        """
        if message.obj_id not in self._recent or message.kind not in _KINDS:
            raise InvalidRequest("the state does not belong to an object of the session", field="state")
        key = StateKey(message.obj_id, message.frame_index, message.kind)
        state = self._state(message)
        if key.kind == TRACKED and key.frame_index not in self._recent[key.obj_id]:
            tracked = self._session.objects[key.obj_id].bank.tracked
            tracked.restore(key.frame_index, state, recent=False)
        else:
            self._states[key] = state

    def finish(self) -> None:
        """Finish the session after its last state; runs on the event loop.

        Raises InvalidRequest if a state is missing.
        """
        session, message = self._session, self._message
        for stored_object in message.objects:
            bank = session.objects[stored_object.obj_id].bank
            for index in stored_object.prompted_frames:
                bank.prompted[index] = self._take(stored_object.obj_id, index, PROMPTED)
            for index in stored_object.conditioning_frames:
                bank.conditioning[index] = self._take(stored_object.obj_id, index, CONDITIONING)
            for index in stored_object.recent_frames:
                bank.tracked.restore(index, self._take(stored_object.obj_id, index, TRACKED), recent=True)
        for stored_concept in message.concepts:
            concept = concept_from_proto(stored_concept)
            session.concepts.by_id[concept.concept_id] = concept
        session.concepts.next_block = message.next_block
        session.revision = message.revision
        entries = wire.history_from_proto(message.history)
        session.history = History(entries, max_entries=session.limits.max_history)
        session.prompted_refs = {
            r.frame_index: wire.embedding_ref_from_proto(r.embedding) for r in message.prompted_refs
        }
        if message.HasField("position"):
            session.position = Position(message.position.propagation_id, message.position.frame_index)
        for answer in message.answers:
            if (response := _response(answer)) is not None:
                session.answers.insert(KeyedResponse(answer.key, answer.request_digest, response))

    def _take(self, obj_id: int, frame_index: int, kind: snapshot_pb2.StateKind) -> FrameState:
        key = StateKey(obj_id, frame_index, kind)
        if key not in self._states:
            raise InvalidRequest(f"the state {key} is missing", field="state")
        return self._states[key]

    def _state(self, message: snapshot_pb2.FrameState) -> FrameState:
        try:
            return FrameState(
                low_res_masks=self._tensor(message.low_res_masks),
                predicted_iou=message.predicted_iou,
                object_score_logit=message.object_score_logit,
                object_pointer=(
                    self._tensor(message.object_pointer) if message.HasField("object_pointer") else None
                ),
                memory_features=(
                    self._tensor(message.memory_features) if message.HasField("memory_features") else None
                ),
                concept_score=message.concept_score,
            )
        except (KeyError, ValueError) as error:
            raise InvalidRequest(f"the tensor cannot be read: {error}", field="state") from error

    def _tensor(self, message: snapshot_pb2.TensorValue) -> Tensor:
        return from_bytes(message.data, _DTYPES[message.dtype], message.shape, self._device)


def _tensor_to_proto(tensor: Tensor) -> snapshot_pb2.TensorValue:
    return snapshot_pb2.TensorValue(dtype=_NUMBERS[tensor.dtype], shape=tensor.shape, data=to_bytes(tensor))


def _run(frames: FrameRange) -> Run:
    first, last = sorted((frames.first_frame_index, frames.last_frame_index))
    return Run(first, last, frames.reverse)


def _response(message: snapshot_pb2.KeyedAnswer) -> Message | None:
    """The response; None if its type is not known to this version."""
    for kind in _RESPONSES:
        response = kind()
        if message.answer.Unpack(response):
            return response
    return None
