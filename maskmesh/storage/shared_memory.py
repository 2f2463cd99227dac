"""Blocks of shared memory that one process writes and others read, if they can open the same file.

The file is in an in-memory file system.  Its first page has a header with a nonce: a process that can name
the nonce has opened this very file, even if hosts or folders have the same names.  A generation for each
block follows, which is odd while the block is written and changes with every write, so that a reader
detects that a block was overwritten while it was read.  The blocks are last, all of one size.
"""

import logging
import mmap
import os
import secrets
import struct
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskmesh.masks import ByteArray
from maskmesh.types import Block

logger = logging.getLogger(__name__)

# Name prefix of the folder that each encoder replica makes, and name of the file in it.
SHARED_MEMORY_PREFIX = "maskmesh-encoder-"
SHARED_MEMORY_FILE = "embeddings"

PAGE = mmap.PAGESIZE
NONCE_BYTES = 32

_MAGIC = b"maskmesh"
_VERSION = 1
_HEADER = struct.Struct(f"<8sIIQ{NONCE_BYTES}s")  # magic, version, blocks, bytes of a block, nonce


class _Layout(NamedTuple):
    """Layout of a file: the number and size of its blocks."""

    blocks: int
    block_bytes: int

    @property
    def first(self) -> int:
        """Offset of the first block."""
        return PAGE + _pages(8 * self.blocks)

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self.first + self.blocks * self.block_bytes

    def offset(self, index: int) -> int:
        """Offset of a block."""
        return self.first + index * self.block_bytes


def _pages(num_bytes: int) -> int:
    return -(-num_bytes // PAGE) * PAGE


class SharedArena:
    """The writer of a file.

    Memory is allocated when a block is first used, at most ``budget_bytes`` in total.  If the budget or the
    file system is exhausted, :meth:`allocate` returns None.  A block is free again once its array is
    garbage collected.  Raises OSError if the file cannot be created.
    """

    def __init__(self, path: Path, *, block_bytes: int, budget_bytes: int) -> None:
        size = _pages(block_bytes)
        self._layout = _Layout(budget_bytes // size, size)
        self.nonce = secrets.token_bytes(NONCE_BYTES)
        self._lock = threading.Lock()
        self._free: deque[int] = deque()
        self._used = 0  # blocks that have been used at least once
        self._is_full = self._layout.blocks == 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, self._layout.num_bytes)
            os.posix_fallocate(descriptor, 0, self._layout.first)
            self._map = mmap.mmap(descriptor, self._layout.num_bytes)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _HEADER.pack_into(self._map, 0, _MAGIC, _VERSION, *self._layout, self.nonce)
        self._generations = np.frombuffer(self._map, np.uint64, self._layout.blocks, PAGE)

    def allocate(self, num_bytes: int) -> tuple[ByteArray, int] | None:
        """An array to write to and the index of its block, or None if no block is free or large enough."""
        with self._lock:
            if num_bytes > self._layout.block_bytes or (index := self._take()) is None:
                return None
            # Odd while the block is written; odd already if the previous write was never published.
            self._generations[index] += 1 + self._generations[index] % 2
        array = np.frombuffer(self._map, np.uint8, num_bytes, self._layout.offset(index))
        # The block that was freed last is reused first: processes have mapped its pages already.
        weakref.finalize(array, self._free.append, index).atexit = False
        return array, index

    def publish(self, index: int) -> Block:
        """Mark a block as written; returns it with its generation."""
        self._generations[index] += 1
        return Block(index, int(self._generations[index]))

    def _take(self) -> int | None:
        try:
            return self._free.pop()
        except IndexError:
            pass
        if self._is_full or self._used == self._layout.blocks:
            return None
        # Allocated before the write, because a write without free memory would kill the process.
        try:
            os.posix_fallocate(self._descriptor, self._layout.offset(self._used), self._layout.block_bytes)
        except OSError as error:
            logger.warning("shared memory is exhausted after %d blocks: %s", self._used, error.strerror)
            self._is_full = True
            return None
        self._used += 1
        return self._used - 1


class SharedView:
    """A reader of a file.  Raises OSError if it cannot be opened, ValueError if it has another format."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        start = self._map[: _HEADER.size].ljust(_HEADER.size)
        magic, version, blocks, block_bytes, self.nonce = _HEADER.unpack(start)
        self._layout = _Layout(blocks, block_bytes)
        if (magic, version) != (_MAGIC, _VERSION) or len(self._map) != self._layout.num_bytes:
            raise ValueError(f"{path.name} is not a shared-memory file of this version")
        self._generations = np.frombuffer(self._map, np.uint64, blocks, PAGE)

    def read(self, block: Block, num_bytes: int) -> ByteArray | None:
        """A copy of a block, or None if it was overwritten.  Raises ValueError if it does not exist."""
        if block.number >= self._layout.blocks or num_bytes > self._layout.block_bytes:
            raise ValueError(f"there is no block {block.number} of {num_bytes} bytes")
        if self._generations[block.number] != block.generation:
            return None
        shared = np.frombuffer(self._map, np.uint8, num_bytes, self._layout.offset(block.number))
        copied = shared.copy()
        return copied if self._generations[block.number] == block.generation else None
