"""Fixture: a tracker with untrained weights."""

import pytest

from tracker_svc.compute.tracker import Tracker
from tracker_svc.model import weights
from tracker_svc.model.config import PRESETS


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(weights.build(PRESETS["test"], None))
