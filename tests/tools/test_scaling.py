"""The autoscaling of the manifests, in simulated time with the limits of the real queues."""

import pytest

from tools.scaling import FACTORS, Outcome, cases, simulate

# Evaluations of the autoscaler after the step within which there must be enough replicas.
EVALUATIONS = 3


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, int], tuple[int, Outcome]]:
    return {(load, factor): (count, simulate(begin, s)) for load, factor, count, begin, s in cases()}


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("load", ["clicks", "streams"])
def test_replicas_follow_a_step_without_oscillation(
    outcomes: dict[tuple[str, int], tuple[int, Outcome]], load: str, factor: int
) -> None:
    needed, outcome = outcomes[load, factor]
    assert outcome.evaluations_until(needed) <= EVALUATIONS
    # Up, and down again when the transient is over; a load at the edge of two numbers may move by a pod.
    assert outcome.regrowth() <= 1
    assert outcome.replicas[-1][1] >= needed, "as the load lasts, so do the replicas that it needs"


def test_queues_alone_saturate_for_clicks() -> None:
    """Why the length of the queues is not the only trigger: refused clicks wait nowhere."""
    (case,) = [c for c in cases() if c[:2] == ("clicks", 10)]
    _, _, needed, begin, seconds = case
    assert simulate(begin, seconds, ["queue"]).evaluations_until(needed) > EVALUATIONS
