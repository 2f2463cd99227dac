"""The cores that a process may use, by its affinity and by the quota of its control group."""

import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def available_cores(root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> int:
    """Number of cores, at least 1.

    Containers limit processor time with a quota, which the number of cores does not show.  ``root`` is where
    control groups are mounted, ``own`` lists those of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min((q for q in (_quota(folder) for folder in _folders(root, own)) if q), default=math.inf)
    return max(1, min(cores, math.ceil(quota) if quota < cores else cores))


def _folders(root: Path, own: Path) -> list[Path]:
    """The folders of this process's control group and of the groups around it.

    A container sees its own group as the root.
    """
    folders = [root, root / "cpu", root / "cpu,cpuacct"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
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
