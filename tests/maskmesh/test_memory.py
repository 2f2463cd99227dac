"""What is freed goes back to the system.  In a process of its own: memory here belongs to all tests."""

import subprocess
import sys

import pytest

HOLES = """
import os, sys
import numpy as np
from maskmesh.memory import bound_arenas, give_back

def mebibytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

bound_arenas()
# Blocks that malloc keeps for itself, and one behind them all that stays.
blocks = [np.ones(2**16, np.uint8) for _ in range(2000)]
last = np.ones(2**16, np.uint8)
full = mebibytes()
del blocks
kept = mebibytes()
give_back()
print(full - kept, kept - mebibytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_freed_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    freed_alone, given_back = map(float, done.stdout.split())
    assert freed_alone < 20
    assert given_back > 100
