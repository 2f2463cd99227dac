"""Keeps the services of a mesh running: each one that ends is started again, while the others go on."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from maskmesh.cli.mesh.service_process import MeshError, ServiceProcess

# Pauses before a service is started again double from the first to the last one.
FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 10.0

# A service that was ready for so long has recovered: the next pause is the first one again.
STEADY_SECONDS = 20.0

# Starts in succession without that, after which a service is given up.
MAX_STARTS = 10


class Supervisor:
    """Starts services again.  If every service of a kind is given up, the mesh cannot work and ends.

    ``start`` starts a process on its port, ``wait_ready`` waits until the service of a name is ready and
    raises MeshError if it ends before; ``log`` is called with the name of a service and a line.
    """

    def __init__(
        self,
        processes: Mapping[str, ServiceProcess],
        *,
        start: Callable[[ServiceProcess], Awaitable[None]],
        wait_ready: Callable[[str], Awaitable[None]],
        log: Callable[[str, str], None],
    ) -> None:
        self._processes = processes
        self._start = start
        self._wait_ready = wait_ready
        self._log = log
        self.restarts: Counter[str] = Counter()
        """How often each service was started again."""
        self.given_up: dict[str, MeshError] = {}
        """Services that are not started again, and why they ended."""

    async def run(self) -> None:
        """Supervise until cancelled.  Raises MeshError if every service of a kind is given up."""
        async with asyncio.TaskGroup() as tasks:
            for process in self._processes.values():
                tasks.create_task(self._keep_running(process))

    def summary(self) -> str:
        """What was started again and what was given up, as a sentence; empty if nothing was."""
        parts = [f"{name} was started again {_times(count)}" for name, count in self.restarts.items()]
        parts += [f"{name} was given up" for name in self.given_up]
        return ", ".join(parts)

    async def _keep_running(self, process: ServiceProcess) -> None:
        name, num_starts = process.name, 0
        ready_at: float | None = time.monotonic()
        while True:
            await process.wait()
            failure = await process.failure()
            if ready_at is not None and time.monotonic() - ready_at > STEADY_SECONDS:
                num_starts = 0
            if num_starts == MAX_STARTS:
                self._give_up(name, failure)
                return
            pause = min(FIRST_PAUSE_SECONDS * 2**num_starts, MAX_PAUSE_SECONDS)
            num_starts += 1
            self._log(name, f"{failure}\nthe {name} is started again in {pause:.1f} s")
            await asyncio.sleep(pause)
            self.restarts[name] += 1
            begun = time.monotonic()
            await self._start(process)
            ready_at = await self._ready_at(process)
            if ready_at is not None:
                self._log(name, f"the {name} is ready again after {ready_at - begun + pause:.1f} s")

    async def _ready_at(self, process: ServiceProcess) -> float | None:
        """When the service was ready; None, once it has ended, if it does not become ready."""
        try:
            await self._wait_ready(process.name)
        except MeshError:
            await process.stop()
            return None
        return time.monotonic()

    def _give_up(self, name: str, failure: MeshError) -> None:
        self.given_up[name] = failure
        kind = name.partition("-")[0]
        self._log(name, f"{failure}\nthe {name} is given up after {MAX_STARTS} starts in succession")
        if all(other in self.given_up for other in self._processes if other.partition("-")[0] == kind):
            raise failure


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
