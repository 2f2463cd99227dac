"""The embedding cache that replicas share: read through, written in the background, not waited for."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio import Redis

from encoder_svc.cache import CacheKey, Embedding
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import encoder_pb2
from maskmesh.storage.redis_store import RedisStore, StoreDown, stop
from maskmesh.types import TensorSpec
from maskmesh.wire import tensor_spec_to_proto, tensor_specs_from_proto

logger = logging.getLogger(__name__)

PREFIX = "maskmesh:1:embeddings"

# Embeddings that wait to be written; beyond, they are not.
MAX_WAITING = 16

# Where fetching turns out to be slower than encoding, one of so many requests looks whether it still is.
TRY_AGAIN = 32

# KEYS: embedding, all by time, all by size, sum of sizes.  ARGV: description, bytes, size, milliseconds, now,
# budget.  What was written longest ago goes first; what has expired is only counted still.
_PUT = """
local before = redis.call('ZSCORE', KEYS[3], KEYS[1])
if before then redis.call('DECRBY', KEYS[4], before) end
redis.call('HSET', KEYS[1], 'description', ARGV[1], 'data', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[5], KEYS[1])
redis.call('ZADD', KEYS[3], ARGV[3], KEYS[1])
local total = redis.call('INCRBY', KEYS[4], ARGV[3])
local dropped = 0
while total > tonumber(ARGV[6]) do
  local oldest = redis.call('ZPOPMIN', KEYS[2])[1]
  if not oldest then break end
  total = redis.call('DECRBY', KEYS[4], redis.call('ZSCORE', KEYS[3], oldest))
  redis.call('ZREM', KEYS[3], oldest)
  redis.call('DEL', oldest)
  dropped = dropped + 1
end
return dropped
"""


class Fetched(NamedTuple):
    """An embedding as it was kept."""

    tensors: Sequence[TensorSpec]
    data: bytes
    image_width: int
    image_height: int


@dataclass(slots=True)
class SharedStatistics:
    """Counters since the start."""

    hits: int = 0
    misses: int = 0
    passed_over: int = 0
    """Requests that were not asked for, because encoding is faster."""
    written: int = 0
    not_written: int = 0
    evictions: int = 0


class RedisEmbeddingCache:
    """Embeddings in a store of the Redis protocol, at most ``budget_bytes`` of all models and tenants.

    Each goes ``ttl_seconds`` after it was written.  Used on one event loop only.
    """

    def __init__(self, store: RedisStore, *, budget_bytes: int, ttl_seconds: float) -> None:
        self.statistics = SharedStatistics()
        self._store = store
        self._budget_bytes = budget_bytes
        self._ttl_seconds = ttl_seconds
        self._put_script = store.script(_PUT)
        self._waiting: asyncio.Queue[tuple[CacheKey, Embedding]] = asyncio.Queue(MAX_WAITING)
        self._writer = asyncio.ensure_future(self._write())
        self._fetch_seconds = 0.0  # usual ones
        self._encode_seconds = 0.0
        self._asked = 0

    @property
    def store(self) -> RedisStore:
        """Where embeddings are."""
        return self._store

    async def get(self, key: CacheKey) -> Fetched | None:
        """An embedding, None where there is none, or it is not worth looking, or the store is down."""
        self._asked += 1
        if self._is_slow() and self._asked % TRY_AGAIN:
            self.statistics.passed_over += 1
            return None
        start = time.perf_counter()
        try:
            description, data = await self._store.run(
                lambda redis: redis.hmget(_name(key), ["description", "data"])
            )
        except StoreDown:
            return None
        if not isinstance(description, bytes) or not isinstance(data, bytes):
            self.statistics.misses += 1
            return None
        self._fetch_seconds = _mean(self._fetch_seconds, time.perf_counter() - start)
        try:
            found = encoder_pb2.CachedEmbedding.FromString(description)
            tensors = tensor_specs_from_proto(found.tensors)
        except (InvalidRequest, ValueError) as error:
            logger.warning("an embedding in the shared cache cannot be read: %s", error)
            return None
        if sum(spec.num_bytes for spec in tensors) != len(data):
            logger.warning("an embedding in the shared cache is incomplete")
            return None
        self.statistics.hits += 1
        return Fetched(tensors, data, found.image_width, found.image_height)

    def put(self, key: CacheKey, embedding: Embedding, encode_seconds: float) -> None:
        """Write an embedding soon, which took so long to encode; not where too many wait."""
        self._encode_seconds = _mean(self._encode_seconds, encode_seconds)
        try:
            self._waiting.put_nowait((key, embedding))
        except asyncio.QueueFull:
            self.statistics.not_written += 1

    async def close(self) -> None:
        """Stop; what waits is not written."""
        await stop(self._writer)
        await self._store.close()

    def _is_slow(self) -> bool:
        """Whether encoding is faster, as far as is known."""
        return 0.0 < self._encode_seconds < self._fetch_seconds

    async def _write(self) -> None:
        while True:
            key, embedding = await self._waiting.get()
            description = encoder_pb2.CachedEmbedding(
                tensors=[tensor_spec_to_proto(spec) for spec in embedding.tensors],
                image_width=embedding.image_width,
                image_height=embedding.image_height,
            )
            data = await asyncio.to_thread(bytes, embedding.data)
            arguments: list[Any] = [description.SerializeToString(), data]
            arguments += [len(embedding.data), int(self._ttl_seconds * 1000), time.time_ns() // 1000]
            arguments += [self._budget_bytes]
            keys = [_name(key), *(f"{PREFIX}:{part}" for part in ("times", "sizes", "bytes"))]

            async def put(redis: Redis, keys: list[str] = keys, arguments: list[Any] = arguments) -> int:
                return int(await self._put_script(keys=keys, args=arguments, client=redis))

            try:
                self.statistics.evictions += await self._store.run(put)
                self.statistics.written += 1
            except StoreDown:
                self.statistics.not_written += 1


def _name(key: CacheKey) -> str:
    return f"{PREFIX}:{key.tenant}:{key.model_id}:{key.digest}"


def _mean(before: float, now: float) -> float:
    """A mean in which what is new counts most."""
    return now if not before else 0.8 * before + 0.2 * now
