"""What is freed goes back to the system.  In a process of its own: memory here belongs to all tests."""

import platform
import subprocess
import sys

import pytest

HOLES = """
import os, sys
import numpy as np
from maskmesh.memory import give_back, keep_frames

def mebibytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

keep_frames()
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


FAULTS = """
import resource, threading
import numpy as np
from maskmesh.memory import give_back, keep_memory

keep_memory()

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(2**25, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def print_faults():
    first = faults(1)
    later = faults(20)
    give_back()
    print(first, later, faults(1))

thread = threading.Thread(target=print_faults)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they like")
def test_large_blocks_are_kept_and_can_be_given_back() -> None:
    """Also those of other threads: the model does not run on the first."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, later, after_giving_back = map(int, done.stdout.split())
    assert later < first
    assert after_giving_back > later
