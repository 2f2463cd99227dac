import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from maskmesh import ResourceExhausted, telemetry
from maskmesh.scheduling import device_worker
from maskmesh.scheduling.admission import MAX_CONSECUTIVE_INTERACTIVE, AdmissionPolicy, Priority, QueueEntry
from maskmesh.scheduling.cpu_sharing import SharedCores
from maskmesh.scheduling.device_worker import BatchedOperation, DeviceWorker


async def test_all_work_runs_on_one_worker_thread() -> None:
    worker = DeviceWorker("device")
    threads = {await worker.run(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    worker.close()


async def test_interactive_work_runs_before_prefetch() -> None:
    worker = DeviceWorker("device")
    order: list[str] = []
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    entries = [QueueEntry(Priority.AHEAD) for _ in range(3)]
    ahead = [
        asyncio.ensure_future(worker.run(partial(order.append, f"ahead {i}"), entry=entries[i]))
        for i in range(3)
    ]
    click = asyncio.ensure_future(worker.run(lambda: order.append("click")))
    await asyncio.sleep(0.01)
    entries[2].promote(Priority.INTERACTIVE)  # a caller now waits for this entry
    release.set()
    await asyncio.gather(blocker, *ahead, click)
    assert order == ["ahead 2", "click", "ahead 0", "ahead 1"]
    worker.close()


async def test_cancelled_queued_work_is_skipped() -> None:
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


async def test_cancellation_waits_for_running_work() -> None:
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


async def test_full_queue_refuses_immediately() -> None:
    worker = DeviceWorker("device", policy=AdmissionPolicy(interactive=1))
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


async def test_cancelled_jobs_take_no_queue_slot() -> None:
    worker = DeviceWorker("device", policy=AdmissionPolicy(interactive=1))
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.05)
    done: list[int] = []
    for number in range(3):
        waiting = asyncio.ensure_future(worker.run(partial(done.append, number)))
        await asyncio.sleep(0.01)
        if number < 2:
            waiting.cancel()
            await asyncio.sleep(0)
    assert worker.num_queued == 1
    release.set()
    await asyncio.gather(blocker, waiting)
    assert done == [2]
    worker.close()


async def test_queue_time_is_recorded_and_errors_propagate() -> None:
    worker = DeviceWorker("device")
    recorder = telemetry.StageRecorder()
    blocker = asyncio.ensure_future(worker.run(lambda: time.sleep(0.05)))
    await asyncio.sleep(0.01)

    def work() -> None:
        with recorder.stage(telemetry.MASK_DECODER, {telemetry.BATCH_SIZE: 3}):
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


async def test_fair_share_among_tenants_without_starvation() -> None:
    worker = DeviceWorker("device")
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.05)
    order: list[str] = []

    def work(name: str, tenant: str, priority: Priority) -> "asyncio.Future[None]":
        run = worker.run(lambda: order.append(name), entry=QueueEntry(priority, tenant))
        return asyncio.ensure_future(run)

    waiting = [work("ahead", "much", Priority.AHEAD)]
    waiting += [work(f"much {i}", "much", Priority.INTERACTIVE) for i in range(6)]
    waiting += [work(f"little {i}", "little", Priority.INTERACTIVE) for i in range(2)]
    await asyncio.sleep(0.05)
    release.set()
    await asyncio.gather(blocker, *waiting)
    worker.close()
    assert order.index("ahead") <= MAX_CONSECUTIVE_INTERACTIVE
    order.remove("ahead")
    assert order[:4] == ["much 0", "little 0", "much 1", "little 1"]
    assert order[4:] == [f"much {i}" for i in range(2, 6)]


async def test_interactive_work_preempts_prefetch() -> None:
    worker = DeviceWorker("device")
    order: list[str] = []
    begun, waiting = threading.Event(), threading.Event()

    def long() -> None:
        begun.set()
        waiting.wait()
        order.append(f"gave way: {worker.run_urgent_work()}")
        order.append(f"again: {worker.run_urgent_work()}")

    ahead = asyncio.ensure_future(worker.run(long, entry=QueueEntry(Priority.AHEAD)))
    await asyncio.to_thread(begun.wait)
    later = asyncio.ensure_future(worker.run(lambda: order.append("later"), entry=QueueEntry(Priority.AHEAD)))
    # Interactive work is not preempted by other interactive work.
    click = asyncio.ensure_future(worker.run(lambda: order.append(f"click: {worker.run_urgent_work()}")))
    other = asyncio.ensure_future(worker.run(lambda: order.append("other click")))
    await asyncio.sleep(0.01)
    waiting.set()
    await asyncio.gather(ahead, later, click, other)
    assert order == ["click: False", "other click", "gave way: True", "again: False", "later"]
    worker.close()


async def test_failure_of_preempting_work_is_isolated() -> None:
    worker = DeviceWorker("device")
    begun, waiting = threading.Event(), threading.Event()

    def long() -> bool:
        begun.set()
        waiting.wait()
        return worker.run_urgent_work()

    def fail() -> None:
        raise KeyError("click")

    ahead = asyncio.ensure_future(worker.run(long, entry=QueueEntry(Priority.AHEAD)))
    await asyncio.to_thread(begun.wait)
    click = asyncio.ensure_future(worker.run(fail))
    await asyncio.sleep(0.01)
    waiting.set()
    assert await ahead
    with pytest.raises(KeyError):
        await click
    worker.close()


async def waiting_together(
    worker: DeviceWorker, together: BatchedOperation[int, str], items: list[int]
) -> list[str]:
    """Submit items while the worker is busy."""
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    waiting = [asyncio.ensure_future(worker.run_batched(together, item)) for item in items]
    await asyncio.sleep(0.01)
    release.set()
    await blocker
    return list(await asyncio.gather(*waiting))


async def test_queued_items_are_batched() -> None:
    worker = DeviceWorker("device")
    batches: list[list[int]] = []

    def compute(items: Sequence[int]) -> list[str]:
        batches.append(list(items))
        return [f"{item}!" for item in items]

    assert await waiting_together(worker, BatchedOperation(compute, max_weight=3), [1, 2, 3, 4]) == [
        "1!",
        "2!",
        "3!",
        "4!",
    ]
    assert batches == [[1, 2, 3], [4]]
    batches.clear()
    await waiting_together(
        worker, BatchedOperation(compute, max_weight=3, batch_key=lambda i: i % 2), [1, 2, 3, 4]
    )
    assert batches == [[1, 3], [2, 4]]
    worker.close()


async def test_batches_do_not_mix_operations_or_priorities() -> None:
    worker = DeviceWorker("device")
    batches: list[list[str]] = []

    def compute(items: Sequence[str]) -> list[None]:
        batches.append(list(items))
        return [None for _ in items]

    one, other = BatchedOperation(compute, max_weight=4), BatchedOperation(compute, max_weight=4)
    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    ahead, now = QueueEntry(Priority.AHEAD), QueueEntry(Priority.INTERACTIVE)
    submitted = [(one, "ahead", ahead), (one, "a click", now), (other, "other", now), (one, "another", now)]
    waiting = [
        asyncio.ensure_future(worker.run_batched(kind, item, entry=replace(entry)))
        for kind, item, entry in submitted
    ]
    waiting.append(asyncio.ensure_future(worker.run_batched(one, "left", entry=replace(now))))
    await asyncio.sleep(0.01)
    waiting.pop().cancel()
    await asyncio.sleep(0.01)
    release.set()
    await asyncio.gather(blocker, *waiting)
    assert batches == [["a click", "another"], ["other"], ["ahead"]]
    worker.close()


async def test_failure_in_a_batch_is_isolated() -> None:
    worker = DeviceWorker("device")

    def compute(items: Sequence[int]) -> list[str]:
        return [str(1 // item) for item in items]

    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    together = BatchedOperation(compute, max_weight=4)
    waiting = [asyncio.ensure_future(worker.run_batched(together, item)) for item in (1, 0, 1)]
    await asyncio.sleep(0.01)
    release.set()
    await blocker
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert (found[0], found[2]) == ("1", "1")
    assert isinstance(found[1], ZeroDivisionError)
    worker.close()


async def test_workers_share_cores_while_both_are_active(tmp_path: Path) -> None:
    chosen: dict[str, list[int]] = {"encoder": [], "tracker": []}
    shared = {
        name: SharedCores(tmp_path / "cores", name, cores=4, set_threads=threads.append)
        for name, threads in chosen.items()
    }
    encoder, tracker = (DeviceWorker(name, cores=cores) for name, cores in shared.items())
    begun, over = threading.Event(), threading.Event()

    def encode() -> None:
        begun.set()
        while not over.is_set():
            time.sleep(0.001)
            encoder.run_urgent_work()

    image = asyncio.ensure_future(encoder.run(encode))
    await asyncio.to_thread(begun.wait)
    assert chosen["encoder"] == [4]
    await tracker.run(lambda: time.sleep(0.05))
    assert chosen["tracker"] == [2]
    while len(chosen["encoder"]) < 3:
        await asyncio.sleep(0.001)
    assert chosen["encoder"] == [4, 2, 4]
    over.set()
    await image
    # The tracker uses the cores of the encoder as soon as the encoder's thread has released them.
    while len(chosen["tracker"]) < 2:
        await tracker.run(lambda: None)
    assert chosen["tracker"] == [2, 4]
    for worker in (encoder, tracker):
        worker.close()
    for one in shared.values():
        one.close()


async def test_item_without_a_batch_key_runs_alone() -> None:
    worker = DeviceWorker("device")
    batches: list[list[int]] = []

    def compute(items: Sequence[int]) -> list[str]:
        batches.append(list(items))
        return [str(item) for item in items]

    def alike(item: int) -> int:
        return 1 // item

    together = BatchedOperation(compute, max_weight=4, batch_key=alike)
    assert await waiting_together(worker, together, [2, 0, 3, 0]) == ["2", "0", "3", "0"]
    assert batches == [[2, 3], [0], [0]]
    worker.close()


async def test_batches_are_bounded_by_weight() -> None:
    worker = DeviceWorker("device")
    batches: list[list[int]] = []

    def compute(items: Sequence[int]) -> list[str]:
        batches.append(list(items))
        return [str(item) for item in items]

    together = BatchedOperation(compute, max_weight=4, weight=lambda item: item)
    await waiting_together(worker, together, [9, 1, 2, 3, 1])
    assert batches == [[9], [1, 2, 1], [3]]
    worker.close()


async def test_finished_items_are_released() -> None:
    class Large:
        pass

    worker = DeviceWorker("device")
    large = Large()
    seen = weakref.ref(large)
    await worker.run_batched(BatchedOperation(lambda items: [None for _ in items], max_weight=1), large)
    del large
    await worker.run(lambda: None)
    gc.collect()
    assert seen() is None
    worker.close()


async def test_on_idle_is_called_once_per_idle_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_worker, "IDLE_SECONDS", 0.02)
    idle: list[int] = []
    worker = DeviceWorker("device", on_idle=lambda: idle.append(threading.get_ident()))
    await asyncio.sleep(0.2)
    assert len(idle) == 1
    assert idle[0] == await worker.run(threading.get_ident)
    await asyncio.sleep(0.2)
    assert len(idle) == 2
    worker.close()


async def test_records_of_a_failed_batch_are_discarded() -> None:
    worker = DeviceWorker("device")
    recorders = [telemetry.StageRecorder() for _ in range(3)]

    def compute(items: Sequence[int]) -> list[int]:
        with telemetry.stages([recorders[item] for item in items], telemetry.MASK_DECODER):
            if 1 in items:
                raise KeyError("one")
        return list(items)

    release = threading.Event()
    blocker = asyncio.ensure_future(worker.run(release.wait))
    await asyncio.sleep(0.01)
    together = BatchedOperation(compute, max_weight=4)
    waiting = [
        asyncio.ensure_future(worker.run_batched(together, item, recorder=recorders[item]))
        for item in range(3)
    ]
    await asyncio.sleep(0.01)
    release.set()
    await blocker
    await asyncio.gather(*waiting, return_exceptions=True)
    for recorder in recorders:
        assert [r.name for r in recorder.records].count(telemetry.MASK_DECODER) == 1
    worker.close()
