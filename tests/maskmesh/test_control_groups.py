"""Cores by the quota of a control group."""

from pathlib import Path

import pytest

from maskmesh.scheduling.control_groups import available_cores, memory_limit


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000", 8),
        ("100000 100000", 1),
        ("250000 100000", 3),
        ("1000 100000", 1),
        ("9900000 100000", 8),
        ("junk", 8),
    ],
)
def test_quota_of_version_2(tmp_path: Path, text: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert available_cores(tmp_path, tmp_path / "none") == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("200000", 2), ("50000", 1)])
def test_quota_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    folder = tmp_path / "cpu" / "pod"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota)
    (folder / "cpu.cfs_period_us").write_text("100000")
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/pod\n1:cpu:/pod\n0::/\n")
    assert available_cores(tmp_path, own) == cores


def test_the_smallest_quota_around_the_process_counts(tmp_path: Path) -> None:
    inner = tmp_path / "slice" / "service"
    inner.mkdir(parents=True)
    (tmp_path / "slice" / "cpu.max").write_text("200000 100000")
    (inner / "cpu.max").write_text("600000 100000")
    own = tmp_path / "cgroup"
    own.write_text("0::/slice/service\n")
    assert available_cores(tmp_path, own) == 2


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "none", tmp_path / "none") == 8


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", "2147483648\n", 2**31),
        ("memory.max", "max\n", None),
        ("memory.limit_in_bytes", "4294967296\n", 2**32),
        ("memory.limit_in_bytes", "9223372036854771712\n", None),
        ("memory.max", "junk", None),
    ],
)
def test_limit_of_the_memory(tmp_path: Path, name: str, text: str, limit: int | None) -> None:
    (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path, tmp_path / "none") == limit


def test_the_smallest_limit_of_the_groups_around_counts(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "memory.max").write_text("1000")
    (tmp_path / "outer" / "inner" / "memory.max").write_text("2000")
    assert memory_limit(tmp_path, own) == 1000
