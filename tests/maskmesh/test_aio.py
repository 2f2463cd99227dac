"""Task sets, single flight, retry windows, stream output."""

import asyncio
import logging

import pytest

from maskmesh.aio import RetryWindow, SingleFlight, StreamOutput, TaskSet, retry, stop, to_its_end


class Failure(Exception):
    """What work in these tests raises."""


async def fail() -> None:
    raise Failure


async def test_task_set_holds_tasks_until_they_end() -> None:
    tasks = TaskSet()
    released = asyncio.Event()
    tasks.spawn(released.wait())
    assert len(tasks) == 1
    released.set()
    await tasks.wait()
    assert len(tasks) == 0


async def test_task_set_reports_failures(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[BaseException] = []
    tasks = TaskSet(errors.append)
    tasks.spawn(fail())
    await tasks.wait()
    await asyncio.sleep(0)
    assert [type(error) for error in errors] == [Failure]
    logged = TaskSet()
    logged.spawn(fail())
    with caplog.at_level(logging.ERROR):
        await logged.wait()
        await asyncio.sleep(0)
    assert "a background task failed" in caplog.text


async def test_closing_a_task_set_cancels_its_tasks() -> None:
    tasks = TaskSet()
    task = tasks.spawn(asyncio.Event().wait())
    await tasks.close()
    assert task.cancelled()


async def test_stop_repeats_a_lost_cancellation() -> None:
    cancellations = 0

    async def ignores_the_first() -> None:
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1

    task = asyncio.ensure_future(ignores_the_first())
    await asyncio.sleep(0)
    await stop(task)
    assert cancellations == 2


async def test_single_flight_runs_once_for_concurrent_callers() -> None:
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)
        return runs

    flights: SingleFlight[str, int] = SingleFlight()
    assert await asyncio.gather(*(flights.run("a", work) for _ in range(5))) == [1] * 5
    assert "a" not in flights
    assert await flights.run("a", work) == 2


async def test_single_flight_survives_a_caller_that_leaves() -> None:
    released = asyncio.Event()

    async def work() -> str:
        await released.wait()
        return "done"

    flights: SingleFlight[str, str] = SingleFlight(cancel_abandoned=True)
    leaves = asyncio.ensure_future(flights.run("a", work))
    stays = asyncio.ensure_future(flights.run("a", work))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.sleep(0)
    released.set()
    assert await stays == "done"


@pytest.mark.parametrize("cancels", [True, False])
async def test_single_flight_cancels_abandoned_work_if_asked(cancels: bool) -> None:
    outcome: list[str] = []
    released = asyncio.Event()

    async def work() -> None:
        try:
            await released.wait()
            outcome.append("finished")
        except asyncio.CancelledError:
            outcome.append("cancelled")
            raise

    flights: SingleFlight[str, None] = SingleFlight(cancel_abandoned=cancels)
    caller = asyncio.ensure_future(flights.run("a", work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    released.set()
    await asyncio.sleep(0.01)
    assert outcome == ["cancelled" if cancels else "finished"]


async def test_single_flight_gives_every_caller_the_error() -> None:
    flights: SingleFlight[str, None] = SingleFlight()
    results = await asyncio.gather(*(flights.run("a", fail) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [Failure] * 3


async def test_retry_repeats_until_success() -> None:
    attempts = 0

    async def work() -> int:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Failure
        return attempts

    window = RetryWindow(10.0, first_pause=0.001)
    assert await retry(work, window, lambda error: isinstance(error, Failure)) == 3


async def test_retry_raises_other_errors_and_the_last_one_when_the_window_closes() -> None:
    with pytest.raises(Failure):
        await retry(fail, RetryWindow(10.0, first_pause=0.001), lambda error: False)
    with pytest.raises(Failure):
        await retry(fail, RetryWindow(0.01, first_pause=0.005), lambda error: True)


async def test_retry_window_opens_with_the_first_failure_and_after_each_reset() -> None:
    window = RetryWindow(0.02, first_pause=0.0)
    await window.wait(Failure())
    await asyncio.sleep(0.03)
    with pytest.raises(Failure):
        await window.wait(Failure())
    window.reset()
    await window.wait(Failure())


async def test_stream_output_ends_in_order() -> None:
    output: StreamOutput[int] = StreamOutput()

    async def produce() -> None:
        for number in range(3):
            output.put(number)
        output.finish()

    output.spawn(produce())
    assert [number async for number in output] == [0, 1, 2]
    await output.close()


async def test_a_failed_task_ends_the_stream_after_earlier_items() -> None:
    output: StreamOutput[int] = StreamOutput()
    output.put(1)
    output.spawn(fail())
    items = aiter(output)
    assert await anext(items) == 1
    with pytest.raises(Failure):
        await anext(items)
    await output.close()


async def test_work_that_must_not_stop_half_way_ends_before_its_cancelled_caller() -> None:
    steps: list[str] = []

    async def work() -> None:
        steps.append("begun")
        await asyncio.sleep(0.05)
        steps.append("ended")

    caller = asyncio.ensure_future(to_its_end(work()))
    await asyncio.sleep(0.01)
    for _ in range(2):
        caller.cancel()
        await asyncio.sleep(0.005)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert steps == ["begun", "ended"]
