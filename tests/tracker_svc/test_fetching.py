import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskmesh.errors import EmbeddingNotFound
from maskmesh.storage.shared_memory import SHARED_MEMORY_FILE, SHARED_MEMORY_PREFIX, SharedArena
from maskmesh.types import EmbeddingRef, SharedBlock, TensorSpec
from tracker_svc.embeddings.fetcher import EmbeddingFetcher, _Fetched

SPECS = [
    TensorSpec("image_embedding", "float32", (2, 2, 2)),
    TensorSpec("high_res_features_s4", "float32", (1, 8, 8)),
    TensorSpec("high_res_features_s8", "float32", (1, 4, 4)),
]
NUM_BYTES = sum(spec.num_bytes for spec in SPECS)
REF = EmbeddingRef("key", "model", "somewhere:1", NUM_BYTES, 8, 8, "default")


class Replica:
    """The shared memory of an encoder, and a fake of its Fetch RPC."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = f"{SHARED_MEMORY_PREFIX}{name}"
        self.path = folder / self.name / SHARED_MEMORY_FILE
        self.path.parent.mkdir()
        self.arena = SharedArena(self.path, block_bytes=NUM_BYTES, budget_bytes=2**16)
        self.write(0)
        self.is_stale = False

    def write(self, value: float) -> None:
        allocated = self.arena.allocate(NUM_BYTES)
        assert allocated is not None
        self.array, number = allocated
        self.array.view(np.float32)[:] = value
        self.block = self.arena.publish(number)

    async def answer(self, ref: EmbeddingRef, nonce: bytes) -> _Fetched:
        if nonce != self.arena.nonce:
            return _Fetched(SPECS, self.name, None, self.array.copy())
        block = self.block
        if self.is_stale:
            del self.array
            self.write(9)
        return _Fetched(SPECS, self.name, block, None)


@pytest.fixture
def fetcher(tmp_path: Path) -> EmbeddingFetcher:
    return EmbeddingFetcher(device=torch.device("cpu"), max_message_bytes=2**20, shared_memory_dir=tmp_path)


def answered_by(fetcher: EmbeddingFetcher, replica: Replica) -> None:
    asked: Any = replica.answer
    fetcher._call_fetch = asked  # type: ignore[method-assign]


async def test_block_overwritten_during_read_is_not_found(fetcher: EmbeddingFetcher, tmp_path: Path) -> None:
    replica = Replica(tmp_path, "one")
    answered_by(fetcher, replica)
    await fetcher.fetch(REF)
    assert fetcher.shares_memory(REF.address)
    replica.is_stale = True
    with pytest.raises(EmbeddingNotFound, match="evicted"):
        await fetcher.fetch(REF)
    replica.is_stale = False
    assert (await fetcher.fetch(REF))[0].eq(9).all()


async def test_restarted_replica_uses_its_new_memory(fetcher: EmbeddingFetcher, tmp_path: Path) -> None:
    before, after = Replica(tmp_path, "before"), Replica(tmp_path, "after")
    after.write(5)
    answered_by(fetcher, before)
    for _ in range(2):
        await fetcher.fetch(REF)
    before.path.unlink()
    answered_by(fetcher, after)
    for _ in range(2):
        assert (await fetcher.fetch(REF))[0].eq(5).all()
    assert fetcher.shares_memory(REF.address)


async def test_memory_of_removed_replicas_is_unmapped(fetcher: EmbeddingFetcher, tmp_path: Path) -> None:
    gone, other = Replica(tmp_path, "gone"), Replica(tmp_path, "other")
    answered_by(fetcher, gone)
    await fetcher.fetch(REF)
    gone.path.unlink()
    answered_by(fetcher, other)
    elsewhere = EmbeddingRef("key", "model", "elsewhere:1", NUM_BYTES, 8, 8, "default")
    await fetcher.fetch(elsewhere)
    assert not fetcher.shares_memory(REF.address)
    assert fetcher.shares_memory(elsewhere.address)


async def test_confirmed_memory_is_read_without_an_rpc(fetcher: EmbeddingFetcher, tmp_path: Path) -> None:
    """Only after the replica has confirmed that it owns the memory, and if the block is in it."""
    replica = Replica(tmp_path, "one")
    asked = 0

    async def ask(ref: EmbeddingRef, nonce: bytes) -> _Fetched:
        nonlocal asked
        asked += 1
        return await replica.answer(ref, nonce)

    fetcher._call_fetch = ask  # type: ignore[method-assign]
    for expected in (1, 2, 2, 2):
        ref = dataclasses.replace(REF, shared=SharedBlock(replica.name, replica.block))
        assert (await fetcher.fetch(ref))[0].eq(0).all()
        assert asked == expected
    del replica.array
    replica.write(4)
    assert (await fetcher.fetch(ref))[0].eq(4).all()
    assert asked == 3
    elsewhere = dataclasses.replace(REF, shared=SharedBlock(f"{SHARED_MEMORY_PREFIX}other", replica.block))
    await fetcher.fetch(elsewhere)
    assert asked == 4


@pytest.mark.parametrize("name", ["", "../elsewhere", "maskmesh-encoder-a/../b", "other"])
async def test_invalid_names_are_not_opened(fetcher: EmbeddingFetcher, tmp_path: Path, name: str) -> None:
    replica = Replica(tmp_path, "one")
    replica.name = name
    answered_by(fetcher, replica)
    await fetcher.fetch(REF)
    assert not fetcher.shares_memory(REF.address)
