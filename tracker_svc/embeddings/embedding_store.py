"""The tracker's cache of embeddings, which fetches missing embeddings from encoders."""

import time
from operator import attrgetter

import grpc
from cachetools import LRUCache

from maskmesh import telemetry
from maskmesh.aio import SingleFlight
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.errors import UNREACHABLE, EmbeddingNotFound, ModelMismatch, Unavailable
from maskmesh.rpc.status import from_rpc_error
from maskmesh.types import EmbeddingRef
from tracker_svc.compute.step import Frame
from tracker_svc.embeddings.fetcher import EmbeddingFetcher


class EmbeddingStore:
    """Fetches embeddings from the encoders that hold them.

    At most ``budget_bytes`` are cached; the least recently used embeddings are evicted first.  Concurrent
    requests for one embedding share one fetch.  Used on one event loop only.
    """

    def __init__(self, fetcher: EmbeddingFetcher, *, model_id: str, budget_bytes: int) -> None:
        self._fetcher = fetcher
        self._model_id = model_id
        self._cache: LRUCache[EmbeddingKey, Frame] = LRUCache(budget_bytes, getsizeof=attrgetter("num_bytes"))
        self._fetches: SingleFlight[EmbeddingKey, Frame] = SingleFlight()

    def check(self, ref: EmbeddingRef) -> None:
        """Raises ModelMismatch if the embedding belongs to another model."""
        if ref.model_id != self._model_id:
            raise ModelMismatch(
                "the embedding was made by another model",
                field="embedding.model_id",
                expected=self._model_id,
                actual=ref.model_id,
            )

    async def get(self, ref: EmbeddingRef, *, since_ns: int | None = None) -> Frame:
        """Returns the embedding of a reference; ``since_ns`` is when it was requested, by default now.

        Raises ModelMismatch, and EmbeddingNotFound if the embedding was evicted or its encoder is
        unreachable; the error's metadata then contains the address of the encoder.
        """
        self.check(ref)
        key = EmbeddingKey.of(ref)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        is_joined = key in self._fetches
        start_ns = time.time_ns()
        frame = await self._fetches.run(key, lambda: self._fetch(ref, since_ns))
        if is_joined:
            # The fetch is in the trace of the caller that began it; this caller waited for it.
            record = telemetry.StageRecord(telemetry.FETCH_EMBEDDING, start_ns, time.time_ns())
            telemetry.emit([record], None)
        if frame.num_bytes <= self._cache.maxsize:
            self._cache[key] = frame
        return frame

    async def close(self) -> None:
        """Close the connections."""
        await self._fetches.close()
        await self._fetcher.close()

    async def _fetch(self, ref: EmbeddingRef, since_ns: int | None) -> Frame:
        with telemetry.stage_span(telemetry.FETCH_EMBEDDING, start_ns=since_ns):
            try:
                features = await self._fetcher.fetch(ref)
            except grpc.RpcError as error:
                translated = from_rpc_error(error)
                if isinstance(translated, ModelMismatch):
                    raise translated from error
                unreachable = {UNREACHABLE: ref.address} if isinstance(translated, Unavailable) else {}
                raise EmbeddingNotFound(
                    "the embedding cannot be fetched", key=ref.key, **unreachable
                ) from error
        return Frame(features, ref.image_width, ref.image_height)
