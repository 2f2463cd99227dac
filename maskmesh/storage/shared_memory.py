"""Blocks of memory that one process writes and others read, where they can open the same file.

The file lies in a file system in memory.  It begins with a page that says what it is and holds a nonce: who
can name the nonce has opened the very file, whatever the names of hosts and folders say.  A generation for
each block follows, odd while the block is written and another one each time, by which a reader notices that
a block was written anew while it was read.  Then come the blocks, all of one size.
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

logger = logging.getLogger(__name__)

# Each replica has a folder of its own, so named, and in it a file.
SHARED_MEMORY_PREFIX = "maskmesh-encoder-"
SHARED_MEMORY_FILE = "embeddings"

PAGE = mmap.PAGESIZE
NONCE_BYTES = 32

_MAGIC = b"maskmesh"
_VERSION = 1
_HEADER = struct.Struct(f"<8sIIQ{NONCE_BYTES}s")  # magic, version, blocks, bytes of a block, nonce


class Block(NamedTuple):
    """A block by its number, and which content of it is meant."""

    number: int
    generation: int


class _Layout(NamedTuple):
    """Where things are in a file."""

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
    """The side that writes.

    Memory is taken from the system as blocks are first used, at most ``budget_bytes`` of it, and no more
    than the file system has: :meth:`allocate` then returns None.  A block is free again when the array
    that was allocated is garbage.  Raises OSError where the file cannot be made.
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
        """An array to write to and the index of its block, or None where there is no room."""
        with self._lock:
            if num_bytes > self._layout.block_bytes or (index := self._take()) is None:
                return None
            # Odd while it is written; it may never have come to its end.
            self._generations[index] += 1 + self._generations[index] % 2
        array = np.frombuffer(self._map, np.uint8, num_bytes, self._layout.offset(index))
        # The one that was used last comes first: its pages are known to all.
        weakref.finalize(array, self._free.append, index).atexit = False
        return array, index

    def publish(self, index: int) -> Block:
        """Say that a block is written."""
        self._generations[index] += 1
        return Block(index, int(self._generations[index]))

    def _take(self) -> int | None:
        try:
            return self._free.pop()
        except IndexError:
            pass
        if self._is_full or self._used == self._layout.blocks:
            return None
        # Writing where there is no memory left would kill the process: it is asked for first.
        try:
            os.posix_fallocate(self._descriptor, self._layout.offset(self._used), self._layout.block_bytes)
        except OSError as error:
            logger.warning("shared memory ends at %d blocks: %s", self._used, error.strerror)
            self._is_full = True
            return None
        self._used += 1
        return self._used - 1


class SharedView:
    """The side that reads.  Raises OSError or ValueError where the file cannot be opened or is another."""

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
            raise ValueError(f"{path.name} is no shared memory of this version")
        self._generations = np.frombuffer(self._map, np.uint64, blocks, PAGE)

    def read(self, block: Block, num_bytes: int) -> ByteArray | None:
        """A copy of a block, or None where it was written anew meanwhile."""
        if block.number >= self._layout.blocks or num_bytes > self._layout.block_bytes:
            raise ValueError(f"there is no block {block.number} of {num_bytes} bytes")
        if self._generations[block.number] != block.generation:
            return None
        shared = np.frombuffer(self._map, np.uint8, num_bytes, self._layout.offset(block.number))
        copied = shared.copy()
        return copied if self._generations[block.number] == block.generation else None
