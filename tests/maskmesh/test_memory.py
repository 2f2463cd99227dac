"""Freed memory is returned to the operating system.

Runs in a subprocess because the tests share the memory of this process.
"""

import platform
import subprocess
import sys

import pytest

HOLES = """
import os, sys
import numpy as np
from maskmesh.scheduling.malloc import retain_freed_frames, trim_heap

def mebibytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

retain_freed_frames()
# malloc retains the freed blocks because the last block, allocated after them, stays allocated.
blocks = [np.ones(2**16, np.uint8) for _ in range(2000)]
last = np.ones(2**16, np.uint8)
full = mebibytes()
del blocks
kept = mebibytes()
trim_heap()
print(full - kept, kept - mebibytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_trim_heap_returns_retained_blocks() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    freed_alone, given_back = map(float, done.stdout.split())
    assert freed_alone < 20
    assert given_back > 100


FAULTS = """
import resource, threading
import numpy as np
from maskmesh.scheduling.malloc import retain_freed_memory, trim_heap

retain_freed_memory()

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(2**25, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def print_faults():
    first = faults(1)
    later = faults(20)
    trim_heap()
    print(first, later, faults(1))

thread = threading.Thread(target=print_faults)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="requires glibc malloc")
def test_large_blocks_are_retained_until_trimmed() -> None:
    """Also on other threads, because the model does not run on the main thread."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    first, later, after_giving_back = map(int, done.stdout.split())
    assert later < first
    assert after_giving_back > later
