"""Detection of changed files."""

import os
from pathlib import Path

import pytest

from maskmesh import reloading
from maskmesh.reloading import FileWatch


@pytest.fixture(autouse=True)
def unlimited_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "CHECK_SECONDS", 0.0)


def test_a_change_is_reported_until_it_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("a")
    watch = FileWatch([path])
    assert watch.poll() is None
    path.write_text("longer")
    stamp = watch.poll()
    assert stamp is not None
    assert watch.poll() == stamp
    watch.accept(stamp)
    assert watch.poll() is None


def test_a_file_of_equal_size_and_time_that_replaces_another_is_a_change(tmp_path: Path) -> None:
    path, other = tmp_path / "cert.pem", tmp_path / "new.pem"
    path.write_text("a")
    other.write_text("b")
    times = path.stat().st_mtime_ns
    watch = FileWatch([path])
    os.utime(other, ns=(times, times))
    other.replace(path)
    assert watch.poll() is not None


def test_a_missing_file_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("a")
    watch = FileWatch([path])
    path.unlink()
    assert watch.poll() is None
    with pytest.raises(OSError, match=r"key\.pem"):
        FileWatch([path])


def test_files_are_checked_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.pem"
    path.write_text("a")
    watch = FileWatch([path])
    monkeypatch.setattr(reloading, "CHECK_SECONDS", 3600.0)
    path.write_text("longer")
    assert watch.poll() is None
