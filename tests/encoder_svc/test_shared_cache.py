"""The shared embedding cache with a real Redis server, which some tests stop or kill."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from encoder_svc.cache import Embedding
from encoder_svc.redis_embedding_cache import PREFIX, PROBE_INTERVAL, RedisEmbeddingCache
from maskmesh.embedding_key import EmbeddingKey
from maskmesh.storage.redis_store import RedisStore
from maskmesh.types import TensorSpec
from tests.redis_server import RedisServer, needs_redis, running_redis

pytestmark = needs_redis

SIZE = 2**16


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path) as running:
        yield running


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[RedisEmbeddingCache]:
    store = RedisStore(server.url, name="shared cache", timeout_seconds=0.25)
    made = RedisEmbeddingCache(store, budget_bytes=4 * SIZE, ttl_seconds=60.0)
    yield made
    await made.close()


def key(digest: str, tenant: str = "default") -> EmbeddingKey:
    return EmbeddingKey(tenant, "model", digest)


def embedding(value: int) -> Embedding:
    data = np.full(SIZE, value, np.uint8)
    return Embedding([TensorSpec("image_embedding", "float32", (SIZE // 4,))], data.data, 640, 480)


async def put(
    cache: RedisEmbeddingCache,
    digest: str,
    value: int = 1,
    tenant: str = "default",
    encode_seconds: float = 10.0,
) -> None:
    before = cache.statistics.written + cache.statistics.not_written
    cache.put(key(digest, tenant), embedding(value), encode_seconds)
    while cache.statistics.written + cache.statistics.not_written == before:
        await asyncio.sleep(0.005)


async def test_stored_embedding_is_found(cache: RedisEmbeddingCache) -> None:
    assert await cache.get(key("a")) is None
    await put(cache, "a", 3)
    found = await cache.get(key("a"))
    assert found is not None
    assert (found.tensors, found.image_width, found.image_height) == (embedding(3).tensors, 640, 480)
    assert found.data == bytes(embedding(3).data)
    assert (cache.statistics.hits, cache.statistics.misses) == (1, 1)


async def test_cache_is_isolated_by_tenant(cache: RedisEmbeddingCache) -> None:
    await put(cache, "a", tenant="one")
    assert await cache.get(key("a", "other")) is None


async def test_cache_size_is_bounded(cache: RedisEmbeddingCache, server: RedisServer) -> None:
    """The size is also correct if a key is stored again."""
    for digest in ("a", "b", "a", "c", "d", "e"):
        await put(cache, digest)
    assert cache.statistics.evictions == 1
    assert [d for d in "abcde" if await cache.get(key(d)) is not None] == ["a", "c", "d", "e"]
    async with server.client() as client:
        assert int(await client.get(f"{PREFIX}:bytes") or 0) == 4 * SIZE


async def test_entries_expire_after_their_ttl(server: RedisServer) -> None:
    cache = RedisEmbeddingCache(RedisStore(server.url, name="cache"), budget_bytes=2**20, ttl_seconds=0.2)
    await put(cache, "a")
    assert await cache.get(key("a")) is not None
    await asyncio.sleep(0.3)
    assert await cache.get(key("a")) is None
    await cache.close()


async def test_corrupt_entry_is_a_miss(cache: RedisEmbeddingCache, server: RedisServer) -> None:
    await put(cache, "a")
    async with server.client() as client:
        await client.hset(f"{PREFIX}:default:model:a", "data", b"short")
    assert await cache.get(key("a")) is None


async def test_unreachable_server_is_a_miss_until_it_restarts(
    cache: RedisEmbeddingCache, server: RedisServer
) -> None:
    await put(cache, "a")
    await server.stop(signal.SIGKILL)
    for _ in range(20):
        assert await cache.get(key("a")) is None
    assert cache.store.is_down
    assert cache.store.failures >= 20
    await server.start()
    deadline = time.monotonic() + 10
    while await cache.get(key("a")) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_stopped_server_adds_little_latency(cache: RedisEmbeddingCache, server: RedisServer) -> None:
    server.send(signal.SIGSTOP)
    start = time.monotonic()
    for _ in range(50):
        assert await cache.get(key("a")) is None
    assert time.monotonic() - start < 5.0
    server.send(signal.SIGCONT)


async def test_slow_cache_is_probed_rarely(cache: RedisEmbeddingCache) -> None:
    await put(cache, "a", encode_seconds=1e-9)
    found = [await cache.get(key("a")) is not None for _ in range(2 * PROBE_INTERVAL + 1)]
    assert found[0]
    assert sum(found) == 3
    assert cache.statistics.passed_over == 2 * PROBE_INTERVAL - 2
