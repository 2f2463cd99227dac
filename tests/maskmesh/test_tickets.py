"""Scheduling order and admission control."""

import asyncio

import pytest

from maskmesh.errors import ResourceExhausted
from maskmesh.scheduling.admission import (
    MAX_TENANTS,
    AdmissionPolicy,
    FairScheduler,
    Priority,
    PrioritySemaphore,
    QueueEntry,
)


def test_queue_slots_are_shared_among_tenants() -> None:
    policy = AdmissionPolicy(interactive=4, ahead=2)
    much = [QueueEntry(tenant="much") for _ in range(4)]
    with pytest.raises(ResourceExhausted) as caught:
        policy.check(QueueEntry(tenant="much"), queued=much, seconds_each=0.5)
    assert caught.value.metadata == {"resource": "queue"}
    assert 1.0 <= caught.value.retry_seconds <= 3.0
    little = [QueueEntry(tenant="little")]
    policy.check(little[0], queued=much, seconds_each=0.5)
    policy.check(QueueEntry(tenant="little"), queued=much + little, seconds_each=0.5)
    with pytest.raises(ResourceExhausted):
        policy.check(QueueEntry(tenant="little"), queued=much + 2 * little, seconds_each=0.5)
    # Prefetch entries have slots of their own.
    ahead = [QueueEntry(Priority.AHEAD, "much"), QueueEntry(Priority.AHEAD, "little")]
    policy.check(ahead[1], queued=ahead[:1] + much, seconds_each=0.5)
    with pytest.raises(ResourceExhausted):
        policy.check(QueueEntry(Priority.AHEAD, "third"), queued=ahead, seconds_each=0.5)


def test_number_of_remembered_tenants_is_bounded() -> None:
    scheduler = FairScheduler()
    for number in range(3 * MAX_TENANTS):
        scheduler.note_served(QueueEntry(tenant=str(number)), preempted=False)
    first, last = QueueEntry(tenant="0"), QueueEntry(tenant=str(3 * MAX_TENANTS - 1))
    assert scheduler.sort_key(first) < scheduler.sort_key(last)
    assert len(scheduler._last_served) == MAX_TENANTS


async def test_admission_counts_running_and_queued_entries() -> None:
    semaphore = PrioritySemaphore(
        2, reserved=1, policy=AdmissionPolicy(interactive=3, ahead=1), seconds_each=lambda: 0.1
    )
    leave = asyncio.Event()

    async def work() -> None:
        async with semaphore.acquire(QueueEntry()):
            await leave.wait()

    tasks = [asyncio.ensure_future(work()) for _ in range(3)]
    await asyncio.sleep(0)
    assert semaphore.num_queued == 1
    with pytest.raises(ResourceExhausted):
        semaphore.check(QueueEntry())
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    semaphore.check(QueueEntry())
    leave.set()
    await asyncio.gather(*tasks[1:])
    assert semaphore.num_queued == 0


async def test_semaphore_reserves_a_slot_for_interactive_work() -> None:
    semaphore = PrioritySemaphore(1, reserved=1, policy=AdmissionPolicy(2, 2), seconds_each=lambda: 0.1)
    inside: list[str] = []
    leave = {name: asyncio.Event() for name in ("first", "second", "click", "late click")}

    async def work(name: str, priority: Priority) -> None:
        async with semaphore.acquire(QueueEntry(priority)):
            inside.append(name)
            await leave[name].wait()

    tasks = [asyncio.ensure_future(work("first", Priority.AHEAD))]
    tasks.append(asyncio.ensure_future(work("second", Priority.AHEAD)))
    await asyncio.sleep(0)
    tasks.append(asyncio.ensure_future(work("click", Priority.INTERACTIVE)))
    await asyncio.sleep(0.01)
    assert inside == ["first", "click"]
    tasks.append(asyncio.ensure_future(work("late click", Priority.INTERACTIVE)))
    await asyncio.sleep(0.01)
    with pytest.raises(ResourceExhausted):
        await work("too many", Priority.INTERACTIVE)
    leave["click"].set()
    await asyncio.sleep(0.01)
    assert inside == ["first", "click", "late click"]
    tasks[1].cancel()
    for event in leave.values():
        event.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with semaphore.acquire(QueueEntry(Priority.AHEAD)):
        pass


async def test_a_promoted_entry_takes_a_reserved_slot() -> None:
    """A click joins the read-ahead of its frame, which waits behind another one."""
    semaphore = PrioritySemaphore(1, reserved=1, policy=AdmissionPolicy(2, 2), seconds_each=lambda: 0.1)
    joined = QueueEntry(Priority.AHEAD)

    async def work() -> None:
        async with semaphore.acquire(joined):
            pass

    async with semaphore.acquire(QueueEntry(Priority.AHEAD)):
        waiting = asyncio.ensure_future(work())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        joined.promote(Priority.INTERACTIVE)
        await asyncio.wait_for(waiting, 5)
