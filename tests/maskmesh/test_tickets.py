"""Whose turn it is, and who finds no place."""

import asyncio

import pytest

from maskmesh.errors import ResourceExhausted
from maskmesh.scheduling.admission import MAX_TENANTS, Priority, AdmissionPolicy, QueueEntry, PrioritySemaphore, FairScheduler


def test_places_are_shared_among_those_who_ask() -> None:
    limits = AdmissionPolicy(interactive=4, ahead=2)
    much = [QueueEntry(tenant="much") for _ in range(4)]
    with pytest.raises(ResourceExhausted) as caught:
        limits.check(much, QueueEntry(tenant="much"), seconds_each=0.5)
    assert caught.value.metadata == {"resource": "queue"}
    assert 1.0 <= caught.value.retry_seconds <= 3.0
    little = [QueueEntry(tenant="little")]
    limits.check(much, little[0], seconds_each=0.5)
    limits.check(much + little, QueueEntry(tenant="little"), seconds_each=0.5)
    with pytest.raises(ResourceExhausted):
        limits.check(much + 2 * little, QueueEntry(tenant="little"), seconds_each=0.5)
    # What is done ahead has places of its own.
    ahead = [QueueEntry(Priority.AHEAD, "much"), QueueEntry(Priority.AHEAD, "little")]
    limits.check(ahead[:1] + much, ahead[1], seconds_each=0.5)
    with pytest.raises(ResourceExhausted):
        limits.check(ahead, QueueEntry(Priority.AHEAD, "third"), seconds_each=0.5)


def test_only_so_many_tenants_are_remembered() -> None:
    turns = FairScheduler()
    for number in range(3 * MAX_TENANTS):
        turns.took(QueueEntry(tenant=str(number)), passed_over=False)
    first, last = QueueEntry(tenant="0"), QueueEntry(tenant=str(3 * MAX_TENANTS - 1))
    assert turns.place(first) < turns.place(last)
    assert len(turns._last) == MAX_TENANTS


async def test_who_comes_next_waits_for_all_that_is_inside_and_outside() -> None:
    gate = PrioritySemaphore(2, reserved=1, limits=AdmissionPolicy(interactive=3, ahead=1))
    leave = asyncio.Event()

    async def work() -> None:
        async with gate.enter(QueueEntry()):
            await leave.wait()

    tasks = [asyncio.ensure_future(work()) for _ in range(3)]
    await asyncio.sleep(0)
    assert gate.num_waiting == 1
    with pytest.raises(ResourceExhausted):
        gate.check(QueueEntry())
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    gate.check(QueueEntry())
    leave.set()
    await asyncio.gather(*tasks[1:])
    assert gate.num_waiting == 0


async def test_a_gate_keeps_places_for_clicks() -> None:
    gate = PrioritySemaphore(1, reserved=1, limits=AdmissionPolicy(2, 2))
    inside: list[str] = []
    leave = {name: asyncio.Event() for name in ("first", "second", "click", "late click")}

    async def work(name: str, priority: Priority) -> None:
        async with gate.enter(QueueEntry(priority)):
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
    async with gate.enter(QueueEntry(Priority.AHEAD)):
        pass
