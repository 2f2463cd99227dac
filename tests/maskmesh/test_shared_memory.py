import errno
import gc
import os
from pathlib import Path

import pytest

from maskmesh.masks import ByteArray
from maskmesh.storage.shared_memory import PAGE, SharedArena, SharedView
from maskmesh.types import Block

SIZE = PAGE + 100  # not a whole number of pages


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blocks"


def make(path: Path, *, blocks: int = 2) -> SharedArena:
    return SharedArena(path, block_bytes=SIZE, budget_bytes=blocks * 2 * PAGE)


def write(arena: SharedArena, value: int) -> tuple[ByteArray, Block]:
    allocated = arena.allocate(SIZE)
    assert allocated is not None
    array, number = allocated
    array[:] = value
    return array, arena.publish(number)


def test_reader_sees_the_published_blocks(path: Path) -> None:
    arena = make(path)
    view = SharedView(path)
    assert view.nonce == arena.nonce
    arrays = [write(arena, value) for value in (3, 7)]
    for (_, block), value in zip(arrays, (3, 7), strict=True):
        read = view.read(block, SIZE)
        assert read is not None
        assert (read == value).all()
    assert path.stat().st_mode & 0o077 == 0


def test_blocks_are_reused_once_released(path: Path) -> None:
    arena = make(path)
    first, _ = write(arena, 1)
    second, _ = write(arena, 2)
    assert arena.allocate(SIZE) is None
    # A view of part of a block keeps the whole block allocated.
    part = first[10:20].data
    del first
    gc.collect()
    assert arena.allocate(SIZE) is None
    del part
    assert arena.allocate(SIZE) is not None
    assert (second == 2).all()


def test_rewritten_block_invalidates_old_references(path: Path) -> None:
    arena = make(path, blocks=1)
    view = SharedView(path)
    array, old = write(arena, 1)
    del array
    allocated = arena.allocate(SIZE)
    assert allocated is not None
    _writing, number = allocated
    # The old reference is invalid during and after the rewrite.
    assert view.read(old, SIZE) is None
    new = arena.publish(number)
    assert view.read(old, SIZE) is None
    assert view.read(new, SIZE) is not None


def test_unpublished_block_is_reused(path: Path) -> None:
    arena = make(path, blocks=1)
    view = SharedView(path)
    array, old = write(arena, 1)
    del array
    arena.allocate(SIZE)
    _array, new = write(arena, 2)
    assert view.read(old, SIZE) is None
    read = view.read(new, SIZE)
    assert read is not None
    assert (read == 2).all()


def test_full_file_system_stops_growth(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arena = make(path)
    first, _ = write(arena, 1)

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert arena.allocate(SIZE) is None
    # Blocks that are already allocated can still be reused.
    del first
    assert arena.allocate(SIZE) is not None


def test_sizes_above_a_block_are_refused(path: Path) -> None:
    arena = make(path)
    view = SharedView(path)
    assert arena.allocate(3 * PAGE) is None
    _, block = write(arena, 1)
    with pytest.raises(ValueError, match="no block"):
        view.read(block, 3 * PAGE)
    with pytest.raises(ValueError, match="no block"):
        view.read(Block(2, 0), SIZE)


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"x" * 3 * PAGE])
def test_invalid_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError)):
        SharedView(path)


def test_links_are_not_followed(path: Path, tmp_path: Path) -> None:
    make(path)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(OSError, match=r"Too many levels|symbolic"):
        SharedView(link)
