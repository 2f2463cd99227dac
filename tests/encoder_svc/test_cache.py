import asyncio

import pytest

from encoder_svc.cache import Embedding, EmbeddingCache, Outcome, Pin
from maskmesh import EmbeddingNotFound, ResourceExhausted
from maskmesh.embedding_key import EmbeddingKey

SIZE = 10


def key(name: str, tenant: str = "default") -> EmbeddingKey:
    return EmbeddingKey(tenant, "model", name)


def embedding(fill: int = 0) -> Embedding:
    return Embedding([], memoryview(bytes([fill] * SIZE)), 4, 3)


async def put(cache: EmbeddingCache, name: str, pin: Pin | None = None) -> Outcome:
    async def create() -> Embedding:
        return embedding()

    return (await cache.get_or_create(key(name), SIZE, create, pin))[1]


async def test_hits_and_misses() -> None:
    cache = EmbeddingCache(100)
    assert await put(cache, "a") is Outcome.MISS
    assert await put(cache, "a") is Outcome.HIT
    assert cache.hit(key("b")) is None
    assert cache.hit(key("a", tenant="another")) is None
    assert (cache.statistics.hits, cache.statistics.misses, cache.num_bytes) == (1, 1, SIZE)


async def test_least_recently_used_entry_is_evicted() -> None:
    cache = EmbeddingCache(3 * SIZE)
    for name in "abc":
        await put(cache, name)
    cache.get(key("a"))
    await put(cache, "d")
    assert cache.hit(key("b")) is None
    assert cache.hit(key("a")) is not None
    assert cache.statistics.evictions == 1
    with pytest.raises(EmbeddingNotFound):
        cache.get(key("b"))


async def test_pinned_entries_are_not_evicted() -> None:
    cache = EmbeddingCache(2 * SIZE)
    await put(cache, "a", Pin("session", 60))
    await put(cache, "b")
    await put(cache, "c")
    assert cache.hit(key("a")) is not None
    assert cache.pinned_bytes == SIZE
    assert await cache.unpin("session", [key("a"), key("b")]) == 1
    assert cache.pinned_bytes == 0


async def test_refused_key_can_be_requested_again() -> None:
    cache = EmbeddingCache(SIZE, wait_seconds=0.01)
    await put(cache, "a", Pin("session", 60))
    for _ in range(2):
        with pytest.raises(ResourceExhausted):
            await put(cache, "b")
        assert not cache.is_filling(key("b"))
    await cache.unpin("session")
    assert await put(cache, "b") is Outcome.MISS


async def test_full_pinned_cache_waits_for_unpin() -> None:
    cache = EmbeddingCache(SIZE, wait_seconds=5)
    await put(cache, "a", Pin("session", 60))
    waiting = asyncio.ensure_future(put(cache, "b"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await cache.unpin("session")
    assert await waiting is Outcome.MISS


async def test_full_pinned_cache_waits_for_pin_expiry() -> None:
    cache = EmbeddingCache(SIZE, wait_seconds=5)
    await put(cache, "a", Pin("session", 0.1))
    assert await asyncio.wait_for(put(cache, "b"), 2) is Outcome.MISS


async def test_full_pinned_cache_refuses_after_timeout() -> None:
    cache = EmbeddingCache(SIZE, wait_seconds=0.1)
    await put(cache, "a", Pin("session", 60))
    with pytest.raises(ResourceExhausted) as caught:
        await put(cache, "b")
    assert caught.value.metadata["resource"] == "cache"
    assert await put(cache, "a") is Outcome.HIT


async def test_unpin_or_cancel_during_encoding_leaves_no_pin() -> None:
    cache = EmbeddingCache(4 * SIZE)
    release = asyncio.Event()

    async def create() -> Embedding:
        await release.wait()
        return embedding()

    def ask(owner: str) -> "asyncio.Task[object]":
        work = cache.get_or_create(key("a"), SIZE, create, Pin(owner, 60))
        return asyncio.ensure_future(work)

    unpins, leaves, stays = ask("unpins"), ask("leaves"), ask("stays")
    await asyncio.sleep(0)
    await cache.unpin("unpins")
    leaves.cancel()
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(unpins, stays)
    assert await cache.unpin("unpins") == 0
    assert await cache.unpin("leaves") == 0
    assert await cache.unpin("stays") == 1
    assert cache.pinned_bytes == 0


async def test_concurrent_requests_share_one_encode() -> None:
    cache = EmbeddingCache(100)
    made = 0
    release = asyncio.Event()

    async def create() -> Embedding:
        nonlocal made
        made += 1
        await release.wait()
        return embedding()

    tasks = [
        asyncio.ensure_future(cache.get_or_create(key("a"), SIZE, create, Pin(str(i), 60))) for i in range(5)
    ]
    await asyncio.sleep(0.01)
    # The first request is cancelled, and the others still get the embedding.
    tasks[0].cancel()
    await asyncio.sleep(0.01)
    release.set()
    outcomes = [outcome for _, outcome in await asyncio.gather(*tasks[1:])]
    assert made == 1
    assert outcomes == [Outcome.JOINED] * 4
    assert cache.pinned_bytes == SIZE


async def test_encode_is_cancelled_without_waiters() -> None:
    cache = EmbeddingCache(100)
    cancelled = asyncio.Event()

    async def create() -> Embedding:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return embedding()

    tasks = [asyncio.ensure_future(cache.get_or_create(key("a"), SIZE, create)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.wait_for(cancelled.wait(), 1)
    await asyncio.sleep(0)
    assert await put(cache, "a") is Outcome.MISS
    assert cache.num_bytes == SIZE


async def test_a_request_during_the_end_of_a_failed_encode_gets_its_error() -> None:
    cache = EmbeddingCache(100)

    async def fail() -> Embedding:
        raise EmbeddingNotFound("not in the shared cache", key="a")

    async with cache._room:  # the failed fill waits for it, to say that there is room
        first = asyncio.ensure_future(cache.get_or_create(key("a"), SIZE, fail))
        for _ in range(5):
            await asyncio.sleep(0)
        second = asyncio.ensure_future(cache.get_or_create(key("a"), SIZE, fail))
        await asyncio.sleep(0)
    for request in (first, second):
        with pytest.raises(EmbeddingNotFound):
            await request
    assert await put(cache, "a") is Outcome.MISS
    assert not cache.is_filling(key("a"))


async def test_failed_encode_leaves_no_entry() -> None:
    cache = EmbeddingCache(SIZE)

    async def fail() -> Embedding:
        raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            await cache.get_or_create(key("a"), SIZE, fail)
    assert await put(cache, "b") is Outcome.MISS
