"""The cores and the memory that a process may use, by its affinity and by the limits of its control group."""

import contextlib
import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")

# Version 1 writes no limit as a number near 2**63.
_UNLIMITED = 2**60


def available_cores(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """Number of cores, at least 1.

    Containers limit processor time with a quota, which the number of cores does not show.  ``root`` is where
    control groups are mounted, ``own`` lists those of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min((q for q in map(_quota, _folders(root, own, "cpu")) if q), default=math.inf)
    return max(1, min(cores, math.ceil(quota) if quota < cores else cores))


def memory_limit(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The memory limit in bytes, None without one.

    A container's limit is not the memory of the machine, which most tools show.
    """
    return min(filter(None, map(_memory_limit, _folders(root, own, "memory"))), default=None)


def memory_available(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The bytes that remain below the nearest memory limit, None without one; files that are cached count as
    used.
    """
    remaining = []
    for folder in _folders(root, own, "memory"):
        if (limit := _memory_limit(folder)) is None:
            continue
        for name in ("memory.current", "memory.usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                remaining.append(max(0, limit - int((folder / name).read_text())))
    return min(remaining, default=None)


def _folders(root: Path, own: Path, controller: str) -> list[Path]:
    """The folders of this process's control group and of the groups around it.

    A container sees its own group as the root.
    """
    folders = [root, root / controller, root / "cpu,cpuacct"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        relative = Path(path.lstrip("/"))
        folders += [base / part for part in (relative, *relative.parents)]
    return folders


def _quota(folder: Path) -> float | None:
    """The quota of one group in cores, None if it has none.  Source: cgroup-v2.rst, sched-bwc.rst (Linux)."""
    try:
        if (limit := folder / "cpu.max").exists():
            quota, period = limit.read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        period_us = int((folder / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _memory_limit(folder: Path) -> int | None:
    """The limit of one group in bytes, None if it has none.  Source: cgroup-v2.rst, memory.rst (Linux)."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            limit = int((folder / name).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return limit if limit < _UNLIMITED else None
    return None
