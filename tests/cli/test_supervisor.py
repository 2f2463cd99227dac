"""Services that end are started again, with pauses and a limit."""

import asyncio
from collections import defaultdict

import pytest

from maskmesh.cli.mesh.service_process import MeshError
from maskmesh.cli.mesh.supervisor import Supervisor


class FakeProcess:
    """A service that ends as soon as it is started, until ``num_failures`` are over."""

    def __init__(self, name: str, num_failures: int) -> None:
        self.name = name
        self.num_failures = num_failures
        self._ended = asyncio.Event()
        if num_failures:
            self._ended.set()

    async def wait(self) -> None:
        await self._ended.wait()

    async def failure(self) -> MeshError:
        return MeshError(f"the {self.name} ended with status 1:\nits last line")

    async def start(self) -> None:
        self.num_failures -= 1
        if self.num_failures <= 0:
            self._ended.clear()


class Scene:
    """A supervisor over fake services, which records its pauses and lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **failures: int) -> None:
        self.pauses: dict[str, list[float]] = defaultdict(list)
        self.lines: list[str] = []
        self.processes = {name: FakeProcess(name, count) for name, count in failures.items()}
        self.supervisor = Supervisor(
            self.processes,  # type: ignore[arg-type]
            start=lambda process: process.start(),  # type: ignore[call-arg]
            wait_ready=self._wait_ready,
            log=lambda name, line: self.lines.append(line),
        )
        sleep = asyncio.sleep

        async def record(seconds: float) -> None:
            task = asyncio.current_task()
            assert task is not None
            self.pauses[task.get_name()].append(seconds)
            await sleep(0)

        monkeypatch.setattr("maskmesh.cli.mesh.supervisor.asyncio.sleep", record)

    async def _wait_ready(self, name: str) -> None:
        if self.processes[name].num_failures > 0:
            raise MeshError("it ended")

    async def run(self, seconds: float = 0.2) -> None:
        async with asyncio.timeout(seconds):
            await self.supervisor.run()


async def test_pauses_double_up_to_a_limit_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProcess, "stop", FakeProcess.failure, raising=False)
    scene = Scene(monkeypatch, tracker=8, encoder=0, gateway=0)
    with pytest.raises(TimeoutError):
        await scene.run()
    (pauses,) = scene.pauses.values()
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert scene.supervisor.restarts == {"tracker": 8}
    assert scene.supervisor.summary() == "tracker was started again 8 times"
    assert "its last line\nthe tracker is started again in 0.2 s" in scene.lines[0]
    assert scene.lines[-1].startswith("the tracker is ready again after")


async def test_a_service_that_never_runs_is_given_up_while_another_of_its_kind_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeProcess, "stop", FakeProcess.failure, raising=False)
    scene = Scene(monkeypatch, **{"tracker": 0, "tracker-2": 1000, "encoder": 0})
    with pytest.raises(TimeoutError):
        await scene.run()
    assert scene.supervisor.restarts == {"tracker-2": 10}
    assert list(scene.supervisor.given_up) == ["tracker-2"]
    assert scene.supervisor.summary() == "tracker-2 was started again 10 times, tracker-2 was given up"


async def test_the_mesh_ends_when_no_service_of_a_kind_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeProcess, "stop", FakeProcess.failure, raising=False)
    scene = Scene(monkeypatch, tracker=0, encoder=1000)
    with pytest.RaisesGroup(MeshError):
        await scene.run()
