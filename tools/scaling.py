"""Simulate how KEDA scales encoders after a step of the load, with the limits of the real queues.

    python -m tools.scaling

Prints the number of replicas over time after steps of 2, 5 and 10 times the load, for clicks (open loop,
refused and retried as by the Python client) and for live streams (closed loop, a window of frames each), with
all triggers of the manifest and with the length of the queues alone.  Time is simulated: nothing is started.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from encoder_svc.config import EncoderSettings
from gateway.config import GatewaySettings
from maskmesh.errors import ResourceExhausted
from maskmesh.scheduling.admission import AdmissionPolicy, Priority, QueueEntry

MANIFEST = Path(__file__).parents[1] / "k8s" / "components" / "hpa" / "encoder.yaml"

STEP_AT = 120.0
END_AT = 900.0

# Of Kubernetes and Prometheus: the period in which the autoscaler evaluates, the change that it tolerates,
# the period of scrapes; and how long a pod of an encoder takes to be ready.
EVALUATION_SECONDS = 15.0
TOLERANCE = 0.1
SCRAPE_SECONDS = 15.0
POD_SECONDS = 20.0

# The averages of the manifest's query.
IN_FLIGHT_SECONDS = 60.0

# The load of one replica at which a service is planned.
PLANNED_UTILISATION = 0.7

# The Python client's attempts at a refused call.
ATTEMPTS = 5

FRAMES_PER_SECOND = 30.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the manifest says: replicas, thresholds, and the speed of changes."""

    min_replicas: int
    max_replicas: int
    thresholds: dict[str, float]
    """Of each trigger, by name: "demand", "queue"."""
    up_seconds: float
    down_seconds: float

    @classmethod
    def load(cls, path: Path = MANIFEST, *, triggers: Sequence[str] = ()) -> "Rules":
        """Read the manifest; ``triggers`` chooses some of its triggers."""
        spec = yaml.safe_load(path.read_text())["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        thresholds = {t["name"]: float(t["metadata"]["threshold"]) for t in spec["triggers"]}
        return cls(
            spec["minReplicaCount"],
            spec["maxReplicaCount"],
            {name: t for name, t in thresholds.items() if not triggers or name in triggers},
            behavior["scaleUp"]["stabilizationWindowSeconds"],
            behavior["scaleDown"]["stabilizationWindowSeconds"],
        )


class Autoscaler:
    """The Horizontal Pod Autoscaler, as Kubernetes documents its algorithm.

    It grows to at most twice the pods or by four in each period, and shrinks by one pod a minute.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._wanted: deque[tuple[float, int]] = deque()
        self._shrunk_at = -math.inf
        self.replicas = rules.min_replicas

    def evaluate(self, now: float, totals: dict[str, float]) -> int:
        """Returns the replicas for the totals of the triggers' queries."""
        rules, current = self._rules, self.replicas
        wanted = 1
        for name, threshold in rules.thresholds.items():
            ratio = totals[name] / (threshold * current)
            wanted = max(
                wanted, current if abs(ratio - 1) <= TOLERANCE else math.ceil(totals[name] / threshold)
            )
        wanted = min(max(wanted, rules.min_replicas), rules.max_replicas)
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - max(rules.up_seconds, rules.down_seconds):
            self._wanted.popleft()
        up = min(n for time, n in self._wanted if time >= now - rules.up_seconds)
        down = max(n for time, n in self._wanted if time >= now - rules.down_seconds)
        if up > current:
            self.replicas = min(up, max(current * 2, current + 4))
        elif down < current and now - self._shrunk_at >= 60:
            self.replicas, self._shrunk_at = current - 1, now
        return self.replicas


@dataclass(slots=True)
class Replica:
    """One encoder: a device with a queue, bounded by the policy of the service."""

    ready_at: float
    running: QueueEntry | None = None
    queued: deque[tuple[QueueEntry, Callable[[], None]]] = field(default_factory=deque)

    @property
    def in_flight(self) -> int:
        return len(self.queued) + (self.running is not None)


@dataclass(slots=True)
class Outcome:
    """What one simulation showed."""

    replicas: list[tuple[float, int]] = field(default_factory=list)
    """After each evaluation."""
    refused: int = 0
    """Calls that failed after the step, after all attempts."""
    latencies: list[float] = field(default_factory=list)
    """Seconds of the calls that began after the step and were served."""
    done: int = 0

    def evaluations_until(self, needed: int) -> int:
        """Evaluations after the step until there are ``needed`` replicas; a large number if never."""
        after = [count for time, count in self.replicas if time > STEP_AT]
        return next((i + 1 for i, count in enumerate(after) if count >= needed), 10**6)

    def regrowth(self) -> int:
        """The pods that were added after the number had begun to fall: 0 or 1 if it does not oscillate."""
        after = [count for time, count in self.replicas if time >= STEP_AT - EVALUATION_SECONDS]
        changes = [b - a for a, b in itertools.pairwise(after)]
        first_fall = next((i for i, change in enumerate(changes) if change < 0), len(changes))
        return sum(change for change in changes[first_fall:] if change > 0)


class Simulation:
    """Encoders under a load that is multiplied at ``STEP_AT``; ``service_seconds`` is one encode."""

    def __init__(self, rules: Rules, *, service_seconds: float, seed: int = 0) -> None:
        settings = EncoderSettings(_cli_parse_args=[])
        self._policy = AdmissionPolicy(1 + settings.max_interactive_queue, settings.max_queue)
        self._service_seconds = service_seconds
        self._random = random.Random(seed)
        self._scaler = Autoscaler(rules)
        self._replicas = [Replica(0.0) for _ in range(rules.min_replicas)]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._now = 0.0
        self._num_refused = 0
        self._scrapes: deque[tuple[float, int, int, int]] = deque(
            maxlen=8
        )  # time, in flight, queued, refused
        self.outcome = Outcome()

    def run(self, begin: Callable[["Simulation"], None]) -> Outcome:
        """Run ``begin``, which schedules the load, to the end."""
        begin(self)
        self.at(SCRAPE_SECONDS / 2, self._scrape)
        self.at(EVALUATION_SECONDS, self._evaluate)
        while self._events and self._events[0][0] < END_AT:
            self._now, _, action = heapq.heappop(self._events)
            action()
        return self.outcome

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self._now

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Schedule an action in ``seconds`` from now."""
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), action))

    def wait_seconds(self, rate: float) -> float:
        """A random time to the next of events that come ``rate`` times a second."""
        return self._random.expovariate(rate)

    def submit(self, priority: Priority, done: Callable[[], None], *, attempt: int = 1) -> None:
        """Send an image to a replica; ``done`` is called when it is encoded.  Refused calls are retried."""
        ready = [replica for replica in self._replicas if replica.ready_at <= self._now]
        replica, entry = self._random.choice(ready), QueueEntry(priority)
        queued = [queued_entry for queued_entry, _ in replica.queued]
        running = [] if replica.running is None else [replica.running]
        try:
            self._policy.check(entry, queued=queued, running=running, seconds_each=self._service_seconds)
        except ResourceExhausted as error:
            self._num_refused += 1
            if attempt == ATTEMPTS:
                self.outcome.refused += self._now > STEP_AT
                return
            self.at(error.retry_seconds, lambda: self.submit(priority, done, attempt=attempt + 1))
            return
        replica.queued.append((entry, done))
        self._serve(replica)

    def _serve(self, replica: Replica) -> None:
        if replica.running is not None or not replica.queued:
            return
        replica.running, done = replica.queued.popleft()

        def finish() -> None:
            replica.running = None
            self.outcome.done += 1
            done()
            self._serve(replica)

        self.at(self._service_seconds * self._random.uniform(0.9, 1.1), finish)

    def _scrape(self) -> None:
        in_flight = sum(replica.in_flight for replica in self._replicas)
        queued = sum(len(replica.queued) for replica in self._replicas)
        self._scrapes.append((self._now, in_flight, queued, self._num_refused))
        self.at(SCRAPE_SECONDS, self._scrape)

    def _evaluate(self) -> None:
        """What the queries of the manifest give: calls in flight and refusals over a minute."""
        recent = [s for s in self._scrapes if s[0] > self._now - IN_FLIGHT_SECONDS]
        minute = [s for s in self._scrapes if s[0] > self._now - 60]
        refused_rate = (minute[-1][3] - minute[0][3]) / max(minute[-1][0] - minute[0][0], SCRAPE_SECONDS)
        totals = {
            "demand": sum(s[1] for s in recent) / len(recent) + refused_rate * self._service_seconds,
            "queue": float(self._scrapes[-1][2]),
        }
        count = self._scaler.evaluate(self._now, totals)
        while len(self._replicas) < count:
            self._replicas.append(Replica(self._now + POD_SECONDS))
        while len(self._replicas) > count:
            leaving = self._replicas.pop()
            for _, done in leaving.queued:
                self.submit(Priority.AHEAD, done)
        self.outcome.replicas.append((self._now, count))
        self.at(EVALUATION_SECONDS, self._evaluate)


def clicks(rate: float, factor: float) -> Callable[[Simulation], None]:
    """Clicks at random times, ``rate`` a second and ``factor`` times as many after the step."""

    def begin(simulation: Simulation) -> None:
        def arrive() -> None:
            start = simulation.now

            def done() -> None:
                if start > STEP_AT:
                    simulation.outcome.latencies.append(simulation.now - start)

            simulation.submit(Priority.INTERACTIVE, done)
            simulation.at(simulation.wait_seconds(rate * (factor if start > STEP_AT else 1)), arrive)

        arrive()

    return begin


def streams(count: int, factor: float) -> Callable[[Simulation], None]:
    """Live streams of 30 frames a second; each has a window of frames in progress, and skips the others."""
    window = GatewaySettings(_cli_parse_args=[]).live_window

    def begin(simulation: Simulation) -> None:
        def stream() -> None:
            in_progress = 0

            def frame() -> None:
                nonlocal in_progress
                if in_progress < window:
                    in_progress += 1
                    simulation.submit(Priority.AHEAD, partial_done(simulation.now))
                simulation.at(1 / FRAMES_PER_SECOND, frame)

            def partial_done(start: float) -> Callable[[], None]:
                def done() -> None:
                    nonlocal in_progress
                    in_progress -= 1
                    if start > STEP_AT:
                        simulation.outcome.latencies.append(simulation.now - start)

                return done

            frame()

        for number in range(count):
            simulation.at(number / count / FRAMES_PER_SECOND, stream)
        for number in range(round(count * (factor - 1))):
            simulation.at(STEP_AT + number / count / FRAMES_PER_SECOND, stream)

    return begin


def needed(load: float) -> int:
    """The replicas for a load in busy devices."""
    return math.ceil(load / PLANNED_UTILISATION)


CLICK_SECONDS = 0.9  # sam2.1-tiny at 1024 on two cores
CLICKS_PER_SECOND = 0.8
STREAM_SECONDS = 0.012  # sam2.1-tiny on a GPU
STREAMS = 2
FACTORS = (2, 5, 10)


def cases() -> Iterator[tuple[str, int, int, Callable[[Simulation], None], float]]:
    """Name, factor, needed replicas, load and seconds of one encode, of each case."""
    for factor in FACTORS:
        load = CLICKS_PER_SECOND * CLICK_SECONDS * factor
        yield "clicks", factor, needed(load), clicks(CLICKS_PER_SECOND, factor), CLICK_SECONDS
    for factor in FACTORS:
        load = STREAMS * FRAMES_PER_SECOND * STREAM_SECONDS * factor
        yield "streams", factor, needed(load), streams(STREAMS, factor), STREAM_SECONDS


def simulate(begin: Callable[[Simulation], None], seconds: float, triggers: Sequence[str] = ()) -> Outcome:
    """Simulate a load with some triggers of the manifest, all by default."""
    return Simulation(Rules.load(triggers=triggers), service_seconds=seconds).run(begin)


@click.command()
def main() -> None:
    """Print the table."""
    console = Console(highlight=False, width=120)
    shown = [0, 15, 30, 45, 60, 90, 120, 300, 600]
    table = Table(title="Replicas after a step of the load (seconds since the step)", title_justify="left")
    for name in ("load", "step", "triggers", "needed", *(f"{s} s" for s in shown), "failed", "p95"):
        table.add_column(name, justify="left" if name in ("load", "triggers") else "right")
    rows: list[Any] = []
    for load, factor, count, begin, seconds in cases():
        for label, triggers in (("queue", ("queue",)), ("all", ())):
            outcome = simulate(begin, seconds, triggers)
            at = [
                next((n for time, n in reversed(outcome.replicas) if time <= STEP_AT + s), 0) for s in shown
            ]
            latencies = sorted(outcome.latencies)
            total = len(latencies) + outcome.refused
            rows.append((load, f"x{factor}", label, count, *at))
            table.add_row(
                load, f"x{factor}", label, str(count), *map(str, at),
                f"{outcome.refused / max(total, 1):.0%}", f"{latencies[int(0.95 * len(latencies))]:.2f} s",
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
