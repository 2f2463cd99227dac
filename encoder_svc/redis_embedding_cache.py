"""The embedding cache in Redis that all encoder replicas share: read-through and write-behind."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio import Redis

from encoder_svc.cache import Embedding
from maskmesh.aio import stop
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import encoder_pb2
from maskmesh.storage.redis_store import RedisStore, StoreDown
from maskmesh.types import TensorSpec
from maskmesh.wire import tensor_spec_to_proto, tensor_specs_from_proto

logger = logging.getLogger(__name__)

PREFIX = "maskmesh:1:embeddings"

# Capacity of the write queue in embeddings.  An embedding is not written if the queue is full.
MAX_QUEUED = 16

# While fetching is slower than encoding, one in this many lookups still fetches, to measure the time again.
PROBE_INTERVAL = 32

# KEYS: embedding, all embeddings by write time, all embeddings by size, sum of sizes.
# ARGV: description, bytes, size, time to live in milliseconds, now, budget.
# The embedding that was written first is evicted first; an expired embedding counts until it is evicted.
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


class CachedTensors(NamedTuple):
    """An embedding from the cache."""

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
    """Lookups that were skipped because encoding is faster."""
    written: int = 0
    not_written: int = 0
    evictions: int = 0


class RedisEmbeddingCache:
    """Caches embeddings in a Redis-compatible server, at most ``budget_bytes`` over all models and tenants.

    An embedding expires ``ttl_seconds`` after it was written.  Used on one event loop only.
    """

    def __init__(self, store: RedisStore, *, budget_bytes: int, ttl_seconds: float) -> None:
        self.statistics = SharedStatistics()
        self._store = store
        self._budget_bytes = budget_bytes
        self._ttl_seconds = ttl_seconds
        self._put_script = store.script(_PUT)
        self._write_queue: asyncio.Queue[tuple[EmbeddingKey, Embedding]] = asyncio.Queue(MAX_QUEUED)
        self._writer = asyncio.ensure_future(self._write())
        self._fetch_seconds = 0.0
        self._encode_seconds = 0.0
        self._num_lookups = 0

    @property
    def store(self) -> RedisStore:
        """The Redis server."""
        return self._store

    async def get(self, key: EmbeddingKey) -> CachedTensors | None:
        """Returns an embedding; None on a cache miss, if encoding is faster, or if the store is down."""
        self._num_lookups += 1
        if self._is_slow() and self._num_lookups % PROBE_INTERVAL:
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
            message = encoder_pb2.CachedEmbedding.FromString(description)
            tensors = tensor_specs_from_proto(message.tensors)
        except (InvalidRequest, ValueError) as error:
            logger.warning("an embedding in the shared cache cannot be read: %s", error)
            return None
        if sum(spec.num_bytes for spec in tensors) != len(data):
            logger.warning("an embedding in the shared cache is incomplete")
            return None
        self.statistics.hits += 1
        return CachedTensors(tensors, data, message.image_width, message.image_height)

    def put(self, key: EmbeddingKey, embedding: Embedding, encode_seconds: float) -> None:
        """Enqueue an embedding for writing; encoding it took ``encode_seconds``.

        The embedding is not written if the queue is full.
        """
        self._encode_seconds = _mean(self._encode_seconds, encode_seconds)
        try:
            self._write_queue.put_nowait((key, embedding))
        except asyncio.QueueFull:
            self.statistics.not_written += 1

    async def close(self) -> None:
        """Stop the writer and close the store; queued embeddings are dropped."""
        await stop(self._writer)
        await self._store.close()

    def _is_slow(self) -> bool:
        """Whether the average fetch takes longer than the average encode."""
        return 0.0 < self._encode_seconds < self._fetch_seconds

    async def _write(self) -> None:
        while True:
            key, embedding = await self._write_queue.get()
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


def _name(key: EmbeddingKey) -> str:
    return f"{PREFIX}:{key.tenant}:{key.model_id}:{key.digest}"


def _mean(before: float, now: float) -> float:
    """An exponential moving average."""
    return now if not before else 0.8 * before + 0.2 * now
