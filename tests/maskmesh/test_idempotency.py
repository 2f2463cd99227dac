import asyncio

import pytest

from maskmesh import Conflict, InvalidRequest, ObjectNotFound
from maskmesh.rpc.idempotency import IdempotencyCache
from maskmesh.v1 import segmentation_pb2

REQUEST = segmentation_pb2.RemoveObjectRequest(session_id="s", obj_id=1)
OTHER = segmentation_pb2.RemoveObjectRequest(session_id="s", obj_id=2)


class Counter:
    """Work that counts its executions."""

    def __init__(self) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def work(self) -> int:
        await self.gate.wait()
        self.count += 1
        return self.count


async def test_a_key_runs_its_work_once() -> None:
    answers, counter = IdempotencyCache(), Counter()
    assert await answers.run("key", REQUEST, counter.work) == 1
    assert await answers.run("key", REQUEST, counter.work) == 1
    assert await answers.run("another", REQUEST, counter.work) == 2
    assert await answers.run("", REQUEST, counter.work) == 3
    assert await answers.run("", REQUEST, counter.work) == 4


async def test_reusing_a_key_for_another_request_conflicts() -> None:
    answers, counter = IdempotencyCache(), Counter()
    await answers.run("key", REQUEST, counter.work)
    with pytest.raises(Conflict) as caught:
        await answers.run("key", OTHER, counter.work)
    assert caught.value.metadata == {"field": "idempotency_key"}
    with pytest.raises(InvalidRequest):
        await answers.run("k" * 129, REQUEST, counter.work)
    assert counter.count == 1


async def test_concurrent_calls_share_one_execution() -> None:
    answers, counter = IdempotencyCache(), Counter()
    counter.gate.clear()
    both = [asyncio.ensure_future(answers.run("key", REQUEST, counter.work)) for _ in range(2)]
    await asyncio.sleep(0)
    counter.gate.set()
    assert await asyncio.gather(*both) == [1, 1]


async def test_result_survives_cancellation_of_the_caller() -> None:
    answers, counter = IdempotencyCache(), Counter()
    counter.gate.clear()
    first = asyncio.ensure_future(answers.run("key", REQUEST, counter.work))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    counter.gate.set()
    assert await answers.run("key", REQUEST, counter.work) == 1
    assert counter.count == 1


async def test_abandoned_work_is_cancelled() -> None:
    answers, counter = IdempotencyCache(), Counter()
    counter.gate.clear()
    both = [
        asyncio.ensure_future(answers.run("key", REQUEST, counter.work, cancel_abandoned=True))
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    both[0].cancel()
    await asyncio.sleep(0)
    assert "key" in answers  # the other call still waits
    both[1].cancel()
    assert all(
        isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*both, return_exceptions=True)
    )
    assert "key" not in answers
    counter.gate.set()
    await asyncio.sleep(0)
    assert counter.count == 0
    # A retry runs the work, and a second retry gets the cached result.
    assert await answers.run("key", REQUEST, counter.work, cancel_abandoned=True) == 1
    assert await answers.run("key", REQUEST, counter.work, cancel_abandoned=True) == 1


async def test_committed_work_is_not_cancelled() -> None:
    answers, counter = IdempotencyCache(), Counter()
    counter.gate.clear()
    first = asyncio.ensure_future(answers.run("key", REQUEST, counter.work, cancel_abandoned=True))
    await asyncio.sleep(0)
    answers.commit("key", REQUEST)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    counter.gate.set()
    assert await answers.run("key", REQUEST, counter.work, cancel_abandoned=True) == 1
    assert counter.count == 1


async def test_failed_work_can_be_retried() -> None:
    answers, counter = IdempotencyCache(), Counter()

    async def fail() -> int:
        raise ObjectNotFound("there is none")

    with pytest.raises(ObjectNotFound):
        await answers.run("key", REQUEST, fail)
    assert await answers.run("key", REQUEST, counter.work) == 1


async def test_oldest_keys_are_evicted() -> None:
    answers, counter = IdempotencyCache(max_keys=3), Counter()
    for index in range(5):
        await answers.run(f"key {index}", REQUEST, counter.work)
    assert await answers.run("key 4", REQUEST, counter.work) == 5
    assert await answers.run("key 0", REQUEST, counter.work) == 6
