import fcntl
import multiprocessing
import multiprocessing.synchronize
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maskmesh.scheduling.cpu_sharing import SharedCores, choose_layout


class Service:
    """A service on four cores, and the thread counts that SharedCores set for it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.threads: list[int] = []
        self.cores = SharedCores(folder, name, cores=4, set_threads=self.threads.append)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    made: list[Service] = []

    def one(name: str) -> Service:
        made.append(Service(tmp_path / "cores", name))
        return made[-1]

    yield one
    for service in made:
        service.cores.close()


def test_only_active_service_uses_all_cores(make: Callable[[str], Service]) -> None:
    encoder, _ = make("encoder"), make("tracker")
    encoder.cores.begin()
    assert encoder.threads == [4]
    encoder.cores.adjust()
    encoder.cores.end()
    encoder.cores.begin()
    assert encoder.threads == [4]


def test_active_services_share_the_cores(make: Callable[[str], Service]) -> None:
    encoder, tracker, third = make("encoder"), make("tracker"), make("third")
    encoder.cores.begin()
    tracker.cores.begin()
    encoder.cores.adjust()
    assert (encoder.threads, tracker.threads) == ([4, 2], [2])
    third.cores.begin()
    encoder.cores.adjust()
    assert (encoder.threads, third.threads) == ([4, 2, 1], [1])
    for other in (tracker, third):
        other.cores.end()
    encoder.cores.adjust()
    assert encoder.threads == [4, 2, 1, 4]


def test_at_least_one_thread_remains(make: Callable[[str], Service]) -> None:
    services = [make(str(i)) for i in range(6)]
    for service in services:
        service.cores.begin()
    assert services[-1].threads == [1]


def test_warm_up_runs_with_every_thread_count(make: Callable[[str], Service]) -> None:
    encoder, tracker = make("encoder"), make("tracker")
    tracker.cores.begin()
    encoder.cores.begin()
    seen: list[int] = []

    def work() -> str:
        encoder.cores.adjust()
        seen.append(encoder.threads[-1])
        return "done"

    assert encoder.cores.warm_up(work) == "done"
    assert seen == [2, 4]
    encoder.cores.adjust()
    assert encoder.threads[-1] == 2


def test_begin_does_not_block_on_a_locked_file(tmp_path: Path, make: Callable[[str], Service]) -> None:
    service = make("encoder")
    with (tmp_path / "cores" / "encoder").open("a") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        service.cores.begin()
    assert service.threads == [4]


def test_deleted_folder_is_tolerated(tmp_path: Path, make: Callable[[str], Service]) -> None:
    encoder, tracker = make("encoder"), make("tracker")
    encoder.cores.begin()
    shutil.rmtree(tmp_path / "cores")
    tracker.cores.begin()
    encoder.cores.adjust()
    assert (encoder.threads, tracker.threads) == ([4, 2], [4])  # the encoder keeps the file open


def compute_for_ever(folder: Path, begun: multiprocessing.synchronize.Event) -> None:
    cores = SharedCores(folder, "other", cores=4, set_threads=lambda threads: None)
    cores.begin()
    begun.set()
    signal.pause()
    cores.close()


def test_cores_of_a_killed_process_are_released(tmp_path: Path, make: Callable[[str], Service]) -> None:
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    other = context.Process(target=compute_for_ever, args=(tmp_path / "cores", begun), daemon=True)
    other.start()
    assert begun.wait(30)
    service = make("encoder")
    service.cores.begin()
    assert service.threads == [2]
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    service.cores.adjust()
    assert service.threads == [2, 4]


@pytest.mark.parametrize(
    ("threads", "shares", "device", "size", "expected"),
    [
        (3, True, "cpu", 1024, (3, False)),
        (0, False, "cpu", 1024, (8, False)),
        (0, True, "cuda:0", 1024, (8, False)),
        (0, True, "cpu", 512, (4, False)),
        (0, True, "cpu", 1024, (8, True)),
    ],
)
def test_layouts(threads: int, shares: bool, device: str, size: int, expected: tuple[int, bool]) -> None:
    layout = choose_layout(threads, cores=8, shares_cores=shares, device=device, image_size=size)
    assert (layout.threads, layout.is_shared) == expected
    assert layout.reason
