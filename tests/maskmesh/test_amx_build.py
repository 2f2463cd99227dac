"""Compilation of the attention kernel, on any processor."""

import ctypes
import os
import shutil
from pathlib import Path

import pytest

from maskmesh.nn.amx import build


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home folder, and an installation without a compiled kernel."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(build, "INSTALLED", tmp_path / "installed.so")
    return tmp_path


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_the_kernel_is_compiled_once_into_the_cache_folder(home: Path) -> None:
    library = build.find_or_build()
    assert library.is_relative_to(home)
    assert ctypes.CDLL(str(library)).maskmesh_amx_is_available() in (0, 1)
    before = library.stat().st_mtime_ns
    assert build.find_or_build() == library
    assert library.stat().st_mtime_ns == before
    assert [path.name for path in library.parent.iterdir()] == [library.name]


def test_an_installed_kernel_is_used_unless_its_source_is_newer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "COMPILERS", ())
    build.INSTALLED.touch()
    assert build.find_or_build() == build.INSTALLED
    os.utime(build.INSTALLED, (0, 0))
    with pytest.raises(build.BuildError):
        build.find_or_build()


def test_a_failure_names_its_reason(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = home / "broken.cpp"
    broken.write_text("this is no C++")
    monkeypatch.setattr(build, "SOURCE", broken)
    with pytest.raises(build.BuildError, match="failed: "):
        build.build(home / "kernel.so")
    monkeypatch.setattr(build, "COMPILERS", ())
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler"):
        build.build(home / "kernel.so")
