"""Embeddings on this side of the cut: fetched once, kept while they are likely to be needed again."""

import asyncio
import time

import grpc
from cachetools import LRUCache

from maskmesh import telemetry
from maskmesh.errors import (
    UNREACHABLE,
    EmbeddingNotFound,
    ModelMismatch,
    Unavailable,
    from_rpc_error,
)
from maskmesh.types import EmbeddingRef
from tracker_svc.compute.tracker import Frame
from tracker_svc.embeddings.fetcher import EmbeddingFetcher


class EmbeddingStore:
    """Fetches embeddings from the replica that holds them.

    At most ``budget_bytes`` are kept, least recently used first; concurrent requests for one embedding
    fetch it once.  Used on one event loop only.
    """

    def __init__(self, fetcher: EmbeddingFetcher, *, model_id: str, budget_bytes: int) -> None:
        self._fetcher = fetcher
        self._model_id = model_id
        self._kept: LRUCache[tuple[str, str], Frame] = LRUCache(budget_bytes, getsizeof=_num_bytes)
        self._fetching: dict[tuple[str, str], asyncio.Task[Frame]] = {}

    def check(self, ref: EmbeddingRef) -> None:
        """Raises ModelMismatch for an embedding of another model."""
        if ref.model_id != self._model_id:
            raise ModelMismatch(
                "the embedding was made by another model",
                field="embedding.model_id",
                expected=self._model_id,
                actual=ref.model_id,
            )

    async def get(self, ref: EmbeddingRef, *, since_ns: int | None = None) -> Frame:
        """The embedding behind a reference; ``since_ns`` is when it was asked for, by default now.

        Raises ModelMismatch, and EmbeddingNotFound where it is gone or its replica is out of reach, which
        the error then says.
        """
        self.check(ref)
        key = (ref.tenant, ref.key)
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.ensure_future(self._fetch(ref, since_ns))
            self._fetching[key] = task
            task.add_done_callback(lambda _: self._fetching.pop(key, None))
            joined = False
        else:
            joined = True
        start = time.time_ns()
        # One caller that leaves must not take the embedding from the others.
        frame = await asyncio.shield(task)
        if joined:
            # The fetch is in the trace of whoever began it; here it is what this one waited for.
            record = telemetry.StageRecord(telemetry.FETCH_EMBEDDING, start, time.time_ns())
            telemetry.emit([record], None)
        if _num_bytes(frame) <= self._kept.maxsize:
            self._kept[key] = frame
        return frame

    async def close(self) -> None:
        """Close the connections."""
        for task in self._fetching.values():
            task.cancel()
        await self._fetcher.close()

    async def _fetch(self, ref: EmbeddingRef, since_ns: int | None) -> Frame:
        with telemetry.tracer().start_as_current_span(
            telemetry.FETCH_EMBEDDING, start_time=since_ns, record_exception=False
        ):
            try:
                features = await self._fetcher.fetch(ref)
            except grpc.RpcError as error:
                raised = from_rpc_error(error)
                if isinstance(raised, ModelMismatch):
                    raise raised from error
                why = {UNREACHABLE: ref.address} if isinstance(raised, Unavailable) else {}
                raise EmbeddingNotFound("the embedding cannot be fetched", key=ref.key, **why) from error
        return Frame(features, ref.image_width, ref.image_height)


def _num_bytes(frame: Frame) -> int:
    return sum(t.nbytes for t in frame.features)
