import asyncio
import threading
import time
from functools import partial

import pytest

from maskmesh import ResourceExhausted, telemetry
from maskmesh.device_worker import DeviceWorker, Priority, Ticket, TicketGate


async def test_one_thread_of_its_own() -> None:
    worker = DeviceWorker("device")
    threads = {await worker.run(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    worker.close()


async def test_what_somebody_waits_for_goes_first() -> None:
    worker = DeviceWorker("device")
    order: list[str] = []
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    tickets = [Ticket(Priority.AHEAD) for _ in range(3)]
    ahead = [
        asyncio.ensure_future(worker.run(partial(order.append, f"ahead {i}"), ticket=tickets[i]))
        for i in range(3)
    ]
    click = asyncio.ensure_future(worker.run(lambda: order.append("click")))
    await asyncio.sleep(0.01)
    tickets[2].hurry(Priority.INTERACTIVE)  # somebody waits for this one now
    release.set()
    await asyncio.gather(blocker, *ahead, click)
    assert order == ["ahead 2", "click", "ahead 0", "ahead 1"]
    worker.close()


async def test_work_whose_caller_left_is_skipped() -> None:
    worker = DeviceWorker("device")
    release = threading.Event()
    ran: list[int] = []
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    left = asyncio.ensure_future(worker.run(lambda: ran.append(1)))
    await asyncio.sleep(0.01)
    left.cancel()
    release.set()
    await blocker
    await worker.run(lambda: ran.append(2))
    assert ran == [2]
    worker.close()


async def test_a_caller_who_leaves_is_let_go_when_the_work_is_over() -> None:
    worker = DeviceWorker("device")
    release = threading.Event()
    running = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    worker.close()


async def test_a_full_queue_refuses_at_once() -> None:
    worker = DeviceWorker("device", max_queue=1)
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.05)
    waiting = asyncio.ensure_future(worker.run(int))
    await asyncio.sleep(0.01)
    with pytest.raises(ResourceExhausted) as caught:
        await worker.run(int)
    assert caught.value.metadata == {"resource": "queue"}
    release.set()
    await asyncio.gather(blocker, waiting)
    worker.close()


async def test_waiting_is_recorded_and_errors_come_back() -> None:
    worker = DeviceWorker("device")
    recorder = telemetry.StageRecorder()
    blocker = asyncio.ensure_future(worker.run(lambda: time.sleep(0.05)))
    await asyncio.sleep(0.01)

    def work() -> None:
        with recorder.stage(telemetry.MASK_DECODER, batch__size=3):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await worker.run(work, recorder=recorder)
    await blocker
    queue, stage = recorder.records
    assert (queue.name, queue.attributes) == ("queue", {telemetry.WAITS_FOR: "device"})
    assert queue.end_ns - queue.start_ns > 20_000_000
    assert queue.end_ns <= stage.start_ns
    assert stage.attributes == {telemetry.BATCH_SIZE: 3}
    worker.close()


async def test_a_gate_keeps_places_for_clicks() -> None:
    gate = TicketGate(1, reserved=1, max_waiting=2)
    inside: list[str] = []
    leave = {name: asyncio.Event() for name in ("first", "second", "click", "late click")}

    async def work(name: str, priority: Priority) -> None:
        async with gate.enter(Ticket(priority)):
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
    leave["first"].set()
    await asyncio.sleep(0.01)
    assert inside == ["first", "click", "late click"]
    tasks[1].cancel()
    for event in leave.values():
        event.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with gate.enter(Ticket(Priority.AHEAD)):
        pass
