"""Encoders of unequal strength: the slower ones take overflow, and nothing that would be done sooner."""

import asyncio
import random
from typing import Any

import pytest

from gateway.backends.encoder_pools import EncoderPools
from gateway.backends.encoders import Encoded, EncodeOptions
from maskmesh.errors import ResourceExhausted, Unavailable
from maskmesh.telemetry import IMAGE_ENCODER, WorkSummary
from maskmesh.types import EmbeddingRef, RawImage
from tests.gateway.in_process import image

OPTIONS = EncodeOptions(interactive=True)


class FakePool:
    """Replicas that encode one image after the other; time is the event loop's."""

    def __init__(self, name: str, seconds: float, replicas: int = 1) -> None:
        self.name = name
        self.seconds = seconds
        self.is_full = False
        self.is_gone = False
        self.done = 0
        self._free = [asyncio.Lock() for _ in range(replicas)]

    async def look_up(
        self, key: str, options: EncodeOptions, work: WorkSummary, *, retries: bool = True
    ) -> Encoded | None:
        if retries and (self.is_full or self.is_gone):
            await asyncio.sleep(20)  # as long as an encoder ring retries
        if self.is_gone:
            raise Unavailable("no encoder is reachable", service="encoder")
        if self.is_full:
            raise ResourceExhausted("the queue is full", resource="queue", retry_seconds=1.0)
        return None

    async def compute(
        self, image: Any, key: str, options: EncodeOptions, work: WorkSummary, *, retries: bool = True
    ) -> Encoded:
        if self.is_gone:
            raise Unavailable("no encoder is reachable", service="encoder")
        index = self.done % len(self._free)
        self.done += 1
        async with self._free[index]:
            await asyncio.sleep(self.seconds)
        ref = EmbeddingRef(key, "model", f"{self.name}-{index}", 1, 1, 1)
        return Encoded(ref, 0, "miss", {IMAGE_ENCODER: self.seconds})


class Alone:
    """One pool without overflow."""

    def __init__(self, pool: FakePool) -> None:
        self._pool = pool

    async def encode(self, image: Any, key: str, options: EncodeOptions) -> Encoded:
        return await self._pool.compute(image, key, options, WorkSummary())


async def encode_at_rate(pools: EncoderPools | Alone, rate: float, count: int) -> list[float]:
    """Encode images that come at random times; returns their latencies, sorted."""
    chance = random.Random(0)
    loop = asyncio.get_running_loop()
    latencies: list[float] = []

    async def one(number: int) -> None:
        start = loop.time()
        await pools.encode(picture(), str(number), OPTIONS)
        latencies.append(loop.time() - start)

    tasks = []
    for number in range(count):
        tasks.append(asyncio.ensure_future(one(number)))
        await asyncio.sleep(chance.expovariate(rate))
    await asyncio.gather(*tasks)
    return sorted(latencies)


def picture() -> RawImage:
    return image(0)  # type: ignore[return-value]


@pytest.fixture
def pools() -> tuple[FakePool, FakePool, EncoderPools]:
    fast, slow = FakePool("fast", 0.01), FakePool("slow", 0.06, replicas=4)
    return fast, slow, EncoderPools(fast, slow)  # type: ignore[arg-type]


async def warm_up(pools: EncoderPools) -> None:
    for number in range(6):
        await pools.encode(picture(), f"warm-{number}", OPTIONS)


async def test_each_pool_is_measured_by_the_warm_up(pools: tuple[FakePool, FakePool, EncoderPools]) -> None:
    fast, slow, both = pools
    await warm_up(both)
    assert (fast.done, slow.done) == (5, 1)


async def test_idle_fast_encoders_take_everything(pools: tuple[FakePool, FakePool, EncoderPools]) -> None:
    _, slow, both = pools
    await warm_up(both)
    await encode_at_rate(both, 30.0, 40)
    assert slow.done == 1


async def test_overflow_never_raises_the_slowest_latencies(
    pools: tuple[FakePool, FakePool, EncoderPools],
) -> None:
    fast, slow, both = pools
    await warm_up(both)
    with_overflow = await encode_at_rate(both, 150.0, 150)
    without = await encode_at_rate(Alone(FakePool("fast", 0.01)), 150.0, 150)
    assert slow.done > 10
    assert fast.done > slow.done
    assert with_overflow[int(0.99 * 150)] < without[int(0.99 * 150) - 1]


async def test_a_full_pool_gives_to_idle_slow_encoders_only(
    pools: tuple[FakePool, FakePool, EncoderPools],
) -> None:
    fast, _, both = pools
    await warm_up(both)
    fast.is_full = True
    first = asyncio.ensure_future(both.encode(picture(), "a", OPTIONS))
    await asyncio.sleep(0.01)
    with pytest.raises(ResourceExhausted):
        await both.encode(picture(), "b", OPTIONS)
    assert (await first).ref.address.startswith("slow")


@pytest.mark.parametrize("trouble", ["is_full", "is_gone"])
async def test_read_ahead_overflows_at_once(
    pools: tuple[FakePool, FakePool, EncoderPools], trouble: str
) -> None:
    """Where nobody waits for an image, an encoder that is full is asked again for a while."""
    fast, _, both = pools
    await warm_up(both)
    setattr(fast, trouble, True)
    encoded = await asyncio.wait_for(both.encode(picture(), "a", EncodeOptions(interactive=False)), 5)
    assert encoded.ref.address.startswith("slow")


async def test_an_overflow_pool_that_is_gone_costs_its_help_only(
    pools: tuple[FakePool, FakePool, EncoderPools],
) -> None:
    fast, slow, both = pools
    slow.is_gone = True
    await warm_up(both)
    latencies = await encode_at_rate(both, 150.0, 60)
    assert len(latencies) == 60
    assert (fast.done, slow.done) == (66, 0)
