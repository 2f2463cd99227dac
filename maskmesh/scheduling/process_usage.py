"""What this process uses of its machine."""

import os
import platform
import time
from functools import cache
from pathlib import Path

import psutil

from maskmesh.scheduling.control_groups import available_cores, memory_limit
from maskmesh.status import ProcessUsage

_CPUINFO = Path("/proc/cpuinfo")


def process_usage() -> ProcessUsage:
    """The usage of this process; takes less than a millisecond."""
    process = psutil.Process()
    with process.oneshot():
        resident = process.memory_info().rss
        times = process.cpu_times()
        started = process.create_time()
    machine_bytes = psutil.virtual_memory().total
    return ProcessUsage(
        resident_bytes=resident,
        peak_resident_bytes=max(resident, _peak_bytes()),
        cpu_seconds=times.user + times.system,
        uptime_seconds=max(0.0, time.time() - started),
        granted_cores=available_cores(),
        visible_cores=os.cpu_count() or 1,
        memory_limit_bytes=min(machine_bytes, memory_limit() or machine_bytes),
        cpu_name=processor(),
    )


def _peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@cache
def processor() -> str:
    """The name of the processor, or the architecture if the name is unknown."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
