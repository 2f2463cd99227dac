import multiprocessing
import multiprocessing.synchronize
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maskmesh import turns as turns_module
from maskmesh.cores import choose_layout
from maskmesh.turns import Turns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cores"


@pytest.fixture
def make(path: Path) -> Iterator[Callable[[], Turns]]:
    """Somebody with files of their own."""
    made: list[Turns] = []

    def one() -> Turns:
        made.append(Turns(path))
        return made[-1]

    yield one
    for turns in made:
        turns.close()


@contextmanager
def turn(turns: Turns, *, urgent: bool = False) -> Iterator[None]:
    assert turns.take(lambda: urgent)
    try:
        yield
    finally:
        turns.give_back()


def waiting(turns: Turns, order: list[str], name: str, *, urgent: bool) -> threading.Thread:
    """Somebody who waits for a turn."""

    def take() -> None:
        with turn(turns, urgent=urgent):
            order.append(name)

    thread = threading.Thread(target=take)
    thread.start()
    time.sleep(0.05)
    return thread


def test_one_at_a_time(make: Callable[[], Turns]) -> None:
    order: list[str] = []
    with turn(make()):
        other = waiting(make(), order, "other", urgent=False)
        assert not order
    other.join()
    assert order == ["other"]


def test_urgent_work_goes_before_what_waited_longer(make: Callable[[], Turns]) -> None:
    order: list[str] = []
    with turn(make()):
        threads = [waiting(make(), order, "first", urgent=False)]
        threads.append(waiting(make(), order, "urgent", urgent=True))
    for thread in threads:
        thread.join()
    assert order == ["urgent", "first"]


def test_a_turn_is_given_up_for_urgent_work_and_taken_again(make: Callable[[], Turns]) -> None:
    order: list[str] = []
    turns = make()
    with turn(turns):
        assert not turns.give_way()
        threads = [waiting(make(), order, "patient", urgent=False)]
        threads += [waiting(make(), order, f"urgent {i}", urgent=True) for i in range(2)]
        assert turns.give_way()
        while len(order) < 2:
            time.sleep(0.01)
            turns.give_way()
        assert sorted(order) == ["urgent 0", "urgent 1"]
        assert not turns.give_way()
    for thread in threads:
        thread.join()
    assert sorted(order) == ["patient", "urgent 0", "urgent 1"]


def test_what_waits_can_become_urgent(make: Callable[[], Turns]) -> None:
    order: list[str] = []
    is_urgent = threading.Event()
    becoming = make()

    def take() -> None:
        becoming.take(is_urgent.is_set)
        order.append("urgent by now")
        becoming.give_back()

    holder = make()
    with turn(holder):
        thread = threading.Thread(target=take)
        thread.start()
        time.sleep(0.05)
        assert not holder.give_way()
        is_urgent.set()
        time.sleep(0.05)
        assert holder.give_way()
        assert order == ["urgent by now"]
    thread.join()


def test_what_was_interrupted_goes_on_before_what_has_not_begun(make: Callable[[], Turns]) -> None:
    order: list[str] = []
    holder = make()
    with turn(holder):
        threads = [waiting(make(), order, f"patient {i}", urgent=False) for i in range(3)]
        threads.append(waiting(make(), order, "urgent", urgent=True))
        assert holder.give_way()
        assert order == ["urgent"]
    for thread in threads:
        thread.join()


def test_who_is_not_wanted_any_more_stops_waiting(make: Callable[[], Turns]) -> None:
    is_over = threading.Event()
    found: list[bool] = []
    patient = make()
    with turn(make()):
        thread = threading.Thread(
            target=lambda: found.append(patient.take(lambda: False, is_over=is_over.is_set))
        )
        thread.start()
        time.sleep(0.05)
        is_over.set()
        thread.join()
    assert found == [False]


def test_patience_with_a_stopped_holder_ends(
    make: Callable[[], Turns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "PATIENCE_SECONDS", 0.1)
    impatient = make()
    with turn(make()):
        assert impatient.take(lambda: True)
        impatient.give_back()
        # And it does not begin anew with the next piece of work.
        start = time.monotonic()
        assert impatient.take(lambda: False)
        assert not impatient.give_way()
        impatient.give_back()
        assert time.monotonic() - start < 0.1


def hold(path: Path, has_turn: multiprocessing.synchronize.Event) -> None:
    with turn(Turns(path), urgent=True):
        has_turn.set()
        time.sleep(60)


def test_the_dead_hold_nothing(path: Path, make: Callable[[], Turns]) -> None:
    context = multiprocessing.get_context("spawn")
    has_turn = context.Event()
    process = context.Process(target=hold, args=(path, has_turn), daemon=True)
    process.start()
    assert has_turn.wait(30)
    order: list[str] = []
    thread = waiting(make(), order, "next", urgent=False)
    assert not order
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    thread.join(10)
    assert order == ["next"]
    process.join()


@pytest.mark.parametrize(
    ("threads", "shares", "device", "size", "expected"),
    [
        (3, True, "cpu", 1024, (3, False)),
        (0, False, "cpu", 1024, (8, False)),
        (0, True, "cpu", 1024, (8, True)),
        (0, True, "cpu", 256, (4, False)),
        (0, True, "cuda:0", 1024, (8, False)),
    ],
)
def test_layouts(
    threads: int,
    shares: bool,
    device: str,
    size: int,
    expected: tuple[int, bool],
) -> None:
    layout = choose_layout(threads, cores=8, shares_cores=shares, device=device, image_size=size)
    assert (layout.threads, layout.takes_turns) == expected
    assert layout.reason
