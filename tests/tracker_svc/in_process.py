"""The tracker service in this process without a gRPC server, on random embeddings."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch

from maskmesh import ClearRecord, FrameRange, LowResLogits, MaskFormat, MaskOptions, PromptRecord, wire
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.types import EmbeddingRef
from tracker_svc.compute.step import Frame
from tracker_svc.config import TrackerSettings
from tracker_svc.service import TrackerServicer

T = TypeVar("T")

FRAMES, WIDTH, HEIGHT = 30, 320, 200
LOGITS = wire.mask_options_to_proto(MaskOptions(MaskFormat.LOW_RES_LOGITS))


@cache
def features(index: int) -> ImageFeatures:
    random = torch.Generator().manual_seed(index)

    def maps(channels: int, side: int) -> torch.Tensor:
        return torch.randn(1, channels, side, side, generator=random)

    return ImageFeatures(maps(64, 16), maps(8, 64), maps(16, 32))


class RandomEmbeddings:
    """A replacement for the embedding cache that returns random embeddings."""

    def check(self, ref: EmbeddingRef) -> None:
        """Accept every reference."""

    async def get(self, ref: EmbeddingRef, *, since_ns: int | None = None) -> Frame:
        """The embedding of the frame with the index ``ref.key``."""
        return Frame(features(int(ref.key)), WIDTH, HEIGHT)

    async def close(self) -> None:
        """Nothing to close."""


class InProcess:
    """The tracker service in this process without a gRPC server."""

    def __init__(self, session_url: str = "") -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.servicer = TrackerServicer(
            TrackerSettings(
                model="test", dtype="float32", data_dir=Path(self.folder.name), session_url=session_url
            )
        )
        self.run(self.servicer.start(0))
        self.servicer.components.embeddings = RandomEmbeddings()  # type: ignore[assignment]
        self.sessions = 0
        self.epochs: dict[str, int] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def create(self, session_id: str = "", *, epoch: int = 0, live: bool = False) -> str:
        self.sessions += 1
        session_id = session_id or f"session {self.sessions}"
        self.epochs[session_id] = epoch
        request = tracker_pb2.CreateSessionRequest(session_id=session_id, epoch=epoch, live=live)
        self.run(self.servicer.CreateSession(request, None))
        return session_id

    def delete(self, session_id: str) -> None:
        request = tracker_pb2.DeleteSessionRequest(session_id=session_id, epoch=self._epoch(session_id))
        self.run(self.servicer.DeleteSession(request, None))

    def expire(self, session_id: str) -> None:
        async def sweep() -> int:
            return self.servicer.components.sessions.sweep()

        self.servicer.components.sessions.get(session_id).expires = 0.0
        # In the loop, as in the service: the end of a session starts a task.
        assert self.run(sweep()) == 1

    def prompt(self, session_id: str, said: PromptRecord) -> np.ndarray:
        request = tracker_pb2.AddPromptRequest(
            epoch=self._epoch(session_id),
            session_id=session_id,
            frame_index=said.frame_index,
            obj_id=said.obj_id,
            prompt=wire.prompt_to_proto(said.prompt),
            clear_previous=said.clear_previous,
            mask_options=LOGITS,
            embedding=wire.embedding_ref_to_proto(ref(said.frame_index)),
        )
        return logits(self.run(self.servicer.AddPrompt(request, None)).mask)

    def clear(self, session_id: str, frame_index: int, obj_id: int) -> list[int]:
        request = tracker_pb2.ClearPromptsRequest(
            epoch=self._epoch(session_id), session_id=session_id, frame_index=frame_index, obj_id=obj_id
        )
        return list(self.run(self.servicer.ClearPrompts(request, None)).obj_ids)

    def remove(self, session_id: str, obj_id: int) -> list[int]:
        request = tracker_pb2.RemoveObjectRequest(
            session_id=session_id, epoch=self._epoch(session_id), obj_id=obj_id
        )
        return list(self.run(self.servicer.RemoveObject(request, None)).obj_ids)

    def reset(self, session_id: str) -> None:
        request = tracker_pb2.ResetSessionRequest(session_id=session_id, epoch=self._epoch(session_id))
        self.run(self.servicer.ResetSession(request, None))

    def state(self, session_id: str) -> tracker_pb2.GetSessionResponse:
        request = tracker_pb2.GetSessionRequest(session_id=session_id, epoch=self._epoch(session_id))
        found: tracker_pb2.GetSessionResponse = self.run(self.servicer.GetSession(request, None))
        return found

    def track(
        self, session_id: str, frames: Iterable[int], *, reverse: bool
    ) -> dict[int, dict[int, np.ndarray]]:
        async def messages() -> AsyncIterator[tracker_pb2.TrackRequest]:
            config = tracker_pb2.TrackConfig(
                epoch=self._epoch(session_id),
                session_id=session_id,
                mask_options=LOGITS,
                direction=wire.direction_to_proto(reverse=reverse),
            )
            yield tracker_pb2.TrackRequest(config=config)
            for index in frames:
                frame = tracker_pb2.TrackFrame(
                    frame_index=index, embedding=wire.embedding_ref_to_proto(ref(index))
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

    def export(self, session_id: str) -> list[tracker_pb2.ExportSessionResponse]:
        """Export a session: the messages of ExportSession."""
        request = tracker_pb2.ExportSessionRequest(session_id=session_id, epoch=self._epoch(session_id))

        async def collect() -> list[tracker_pb2.ExportSessionResponse]:
            return [part async for part in self.servicer.ExportSession(request, None)]

        return self.run(collect())

    def import_session(self, parts: Iterable[tracker_pb2.ExportSessionResponse], *, epoch: int = 0) -> None:
        """Create a session from the messages of ExportSession."""

        async def messages() -> AsyncIterator[tracker_pb2.ImportSessionRequest]:
            for part in parts:
                if part.HasField("session"):
                    self.epochs[part.session.session_id] = epoch
                    config = tracker_pb2.ImportConfig(session=part.session, epoch=epoch)
                    yield tracker_pb2.ImportSessionRequest(config=config)
                else:
                    yield tracker_pb2.ImportSessionRequest(state=part.state)
            yield tracker_pb2.ImportSessionRequest(finish=tracker_pb2.ImportSessionFinish())

        self.run(self.servicer.ImportSession(messages(), None))

    def flush(self, session_id: str) -> None:
        """Replicate the whole session to the store."""
        self.run(self.servicer.components.sessions.get(session_id).replicator.flush())

    def close(self) -> None:
        self.run(self.servicer.close())
        self.loop.close()
        self.folder.cleanup()

    def _epoch(self, session_id: str) -> int:
        return self.epochs.get(session_id, 0)

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
