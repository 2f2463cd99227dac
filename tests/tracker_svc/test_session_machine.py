"""Whatever is done with a session, in whatever order: its history makes the same session again."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from maskmesh import (
    Box,
    ClearRecord,
    FrameRange,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    Point,
    Prompt,
    PromptRecord,
    embedding_wire,
    session_wire,
    wire,
)
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.types import EmbeddingRef
from tracker_svc.config import TrackerSettings
from tracker_svc.model.tracking_model import ImageFeatures
from tracker_svc.service import TrackerServicer
from tracker_svc.tracker import Frame

T = TypeVar("T")

FRAMES, WIDTH, HEIGHT = 30, 320, 200
LOGITS = wire.mask_options_to_proto(MaskOptions(MaskFormat.LOW_RES_LOGITS))

# Objects that were removed took part in batches, where products are summed in another order.
TOLERANCE = 5e-3

obj_ids = st.integers(1, 3)
frame_indices = st.integers(0, FRAMES - 1)


@cache
def features(index: int) -> ImageFeatures:
    random = torch.Generator().manual_seed(index)

    def maps(channels: int, side: int) -> torch.Tensor:
        return torch.randn(1, channels, side, side, generator=random)

    return ImageFeatures(maps(64, 16), maps(8, 64), maps(16, 32))


class RandomEmbeddings:
    """In place of embeddings that an encoder made."""

    def check(self, ref: EmbeddingRef) -> None:
        """Any will do."""

    async def get(self, ref: EmbeddingRef, *, since_ns: int | None = None) -> Frame:
        """The embedding of the frame whose number is the key."""
        return Frame(features(int(ref.key)), WIDTH, HEIGHT)

    async def close(self) -> None:
        """Nothing to close."""


class InProcess:
    """The tracker service without a server."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.servicer = TrackerServicer(
            TrackerSettings(model="test", dtype="float32", data_dir=Path(self.folder.name))
        )
        self.run(self.servicer.start(0))
        self.servicer.embeddings = RandomEmbeddings()  # type: ignore[assignment]
        self.sessions = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def create(self) -> str:
        self.sessions += 1
        session_id = f"session {self.sessions}"
        request = tracker_pb2.CreateSessionRequest(session_id=session_id)
        self.run(self.servicer.CreateSession(request, None))
        return session_id

    def delete(self, session_id: str) -> None:
        self.run(self.servicer.DeleteSession(tracker_pb2.DeleteSessionRequest(session_id=session_id), None))

    def expire(self, session_id: str) -> None:
        self.servicer.sessions.get(session_id).expires = 0.0
        assert self.servicer.sessions.sweep() == 1

    def prompt(self, session_id: str, said: PromptRecord) -> np.ndarray:
        request = tracker_pb2.AddPromptRequest(
            session_id=session_id,
            frame_index=said.frame_index,
            obj_id=said.obj_id,
            prompt=wire.prompt_to_proto(said.prompt),
            clear_previous=said.clear_previous,
            mask_options=LOGITS,
            embedding=embedding_wire.ref_to_proto(ref(said.frame_index)),
        )
        return logits(self.run(self.servicer.AddPrompt(request, None)).mask)

    def clear(self, session_id: str, frame_index: int, obj_id: int) -> list[int]:
        request = tracker_pb2.ClearPromptsRequest(
            session_id=session_id, frame_index=frame_index, obj_id=obj_id
        )
        return list(self.run(self.servicer.ClearPrompts(request, None)).obj_ids)

    def remove(self, session_id: str, obj_id: int) -> list[int]:
        request = tracker_pb2.RemoveObjectRequest(session_id=session_id, obj_id=obj_id)
        return list(self.run(self.servicer.RemoveObject(request, None)).obj_ids)

    def reset(self, session_id: str) -> None:
        self.run(self.servicer.ResetSession(tracker_pb2.ResetSessionRequest(session_id=session_id), None))

    def state(self, session_id: str) -> tracker_pb2.GetSessionResponse:
        request = tracker_pb2.GetSessionRequest(session_id=session_id)
        found: tracker_pb2.GetSessionResponse = self.run(self.servicer.GetSession(request, None))
        return found

    def track(
        self, session_id: str, frames: Iterable[int], *, reverse: bool
    ) -> dict[int, dict[int, np.ndarray]]:
        async def messages() -> AsyncIterator[tracker_pb2.TrackRequest]:
            config = tracker_pb2.TrackConfig(
                session_id=session_id,
                mask_options=LOGITS,
                direction=session_wire.direction_to_proto(reverse=reverse),
            )
            yield tracker_pb2.TrackRequest(config=config)
            for index in frames:
                frame = tracker_pb2.TrackFrame(
                    frame_index=index, embedding=embedding_wire.ref_to_proto(ref(index))
                )
                yield tracker_pb2.TrackRequest(frame=frame)

        async def collect() -> dict[int, dict[int, np.ndarray]]:
            found = {}
            async for response in self.servicer.Track(messages(), None):
                if response.HasField("result"):
                    frame = response.result.frame
                    found[frame.frame_index] = {o.obj_id: logits(o) for o in frame.objects}
            return found

        return self.run(collect())

    def replay(self, session_id: str, history: Iterable[object]) -> None:
        for entry in history:
            match entry:
                case PromptRecord():
                    self.prompt(session_id, entry)
                case ClearRecord(frame_index, obj_id):
                    self.clear(session_id, frame_index, obj_id)
                case FrameRange(first, last, reverse):
                    frames = range(first, last - 1, -1) if reverse else range(first, last + 1)
                    self.track(session_id, frames, reverse=reverse)


def ref(frame_index: int) -> EmbeddingRef:
    return EmbeddingRef(str(frame_index), "test", "nowhere", 1, WIDTH, HEIGHT)


def logits(message: Any) -> np.ndarray:
    mask = wire.object_mask_from_proto(message).mask
    assert isinstance(mask, LowResLogits)
    return mask.values


@cache
def tracker() -> InProcess:
    return InProcess()


class SessionMachine(RuleBasedStateMachine):
    """A session, and what is known of it without the tracker: who is prompted where."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = tracker()
        self.prompted: dict[int, set[int]] = {}

    @initialize()
    def begin(self) -> None:
        self.session_id = self.tracker.create()
        self.prompted = {}

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH), y=st.integers(0, HEIGHT),
          clear=st.booleans())  # fmt: skip
    def prompt(self, obj_id: int, index: int, x: int, y: int, *, clear: bool) -> None:
        positive = (x + y) % 2 == 0  # so that no two contradict one another
        said = PromptRecord(index, obj_id, Prompt([Point(x, y, positive)]), clear)
        assert self.tracker.prompt(self.session_id, said).shape == (64, 64)
        self.prompted.setdefault(obj_id, set()).add(index)

    @precondition(lambda self: self.prompted)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        obj_id = data.draw(st.sampled_from(sorted(self.prompted)))
        index = data.draw(st.sampled_from(sorted(self.prompted[obj_id])))
        self.prompted[obj_id].remove(index)
        if not self.prompted[obj_id]:
            del self.prompted[obj_id]
        assert self.tracker.clear(self.session_id, index, obj_id) == list(self.prompted)

    @precondition(lambda self: self.prompted)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        obj_id = data.draw(st.sampled_from(sorted(self.prompted)))
        del self.prompted[obj_id]
        assert self.tracker.remove(self.session_id, obj_id) == list(self.prompted)

    @rule(obj_id=obj_ids, index=frame_indices)
    def refuse_what_is_not_there(self, obj_id: int, index: int) -> None:
        before = self.tracker.state(self.session_id)
        if index not in self.prompted.get(obj_id, ()):
            self._refused(lambda: self.tracker.clear(self.session_id, index, obj_id))
        if obj_id not in self.prompted:
            self._refused(lambda: self.tracker.remove(self.session_id, obj_id))
        self._refused(
            lambda: self.tracker.prompt(self.session_id, PromptRecord(index, obj_id, Prompt([Point(999, 1)])))
        )
        assert self.tracker.state(self.session_id) == before

    @rule()
    def reset(self) -> None:
        self.tracker.reset(self.session_id)
        self.prompted = {}

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH - 60), y=st.integers(0, HEIGHT - 50))
    def box(self, obj_id: int, index: int, x: int, y: int) -> None:
        said = PromptRecord(index, obj_id, Prompt(box=Box(x, y, x + 60, y + 50)), clear_previous=True)
        self.tracker.prompt(self.session_id, said)
        self.prompted.setdefault(obj_id, set()).add(index)

    @rule(obj_id=obj_ids, index=frame_indices, x=st.integers(0, WIDTH - 60))
    def mask(self, obj_id: int, index: int, x: int) -> None:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[40:120, x : x + 60] = True
        self.tracker.prompt(self.session_id, PromptRecord(index, obj_id, Prompt.of(mask=mask)))
        self.prompted.setdefault(obj_id, set()).add(index)

    @rule()
    def expire(self) -> None:
        self.tracker.expire(self.session_id)
        self._refused(lambda: self.tracker.state(self.session_id))
        self.begin()

    @precondition(lambda self: self.prompted)
    @rule(start=frame_indices, count=st.integers(1, FRAMES), reverse=st.booleans())
    def propagate(self, start: int, count: int, *, reverse: bool) -> None:
        frames = (
            range(start, max(start - count, -1), -1) if reverse else range(start, min(start + count, FRAMES))
        )
        found = self.tracker.track(self.session_id, frames, reverse=reverse)
        assert list(found) == list(frames)
        assert all(list(objects) == list(self.prompted) for objects in found.values())

    def teardown(self) -> None:
        if not hasattr(self, "session_id"):
            return
        state = self.tracker.state(self.session_id)
        assert {o.obj_id: set(o.prompted_frames) for o in state.objects} == self.prompted
        assert [o.obj_id for o in state.objects] == list(self.prompted)
        if self.prompted:
            self._compare_with_a_fresh_session(state)
        self.tracker.delete(self.session_id)

    def _compare_with_a_fresh_session(self, state: tracker_pb2.GetSessionResponse) -> None:
        fresh = self.tracker.create()
        self.tracker.replay(fresh, session_wire.history_from_proto(state.history))
        again = self.tracker.state(fresh)
        assert again.objects == state.objects
        assert again.history == state.history
        for reverse in (False, True):
            frames = range(FRAMES - 1, -1, -1) if reverse else range(FRAMES)
            ours = self.tracker.track(self.session_id, frames, reverse=reverse)
            theirs = self.tracker.track(fresh, frames, reverse=reverse)
            for index in frames:
                for obj_id, expected in theirs[index].items():
                    error = np.abs(ours[index][obj_id] - expected).max() / np.abs(expected).max()
                    assert error < TOLERANCE, (index, obj_id, reverse)
        self.tracker.delete(fresh)

    def _refused(self, call: Any) -> None:
        try:
            call()
        except MaskmeshError:
            return
        raise AssertionError("it was not refused")


SessionMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=12,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=list(HealthCheck),
)
TestSession = SessionMachine.TestCase
