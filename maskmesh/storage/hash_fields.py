"""Reads of many fields of a hash in the store, in steps that are short enough for the timeout of each."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

from redis.asyncio import Redis

from maskmesh.storage.redis_store import RedisStore

# Values that are read in one operation, in bytes; a larger value is read alone.
READ_BYTES = 2**20


async def get_fields(store: RedisStore, key: str, names: Sequence[str]) -> list[bytes | None]:
    """The values of fields, None for those that the hash does not have.  Raises StoreDown."""

    async def measure(redis: Redis) -> list[int]:
        async with redis.pipeline(transaction=False) as steps:
            for name in names:
                steps.hstrlen(key, name)
            sizes: list[int] = await steps.execute()
            return sizes

    found: list[bytes | None] = []
    for batch in batches(names, await store.run(measure) if names else []):
        found += await store.run(partial(_get, key=key, names=batch))
    return found


def batches(names: Sequence[str], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Split names where the values of a batch would exceed READ_BYTES; ``sizes`` are those of the values."""
    batch: list[str] = []
    num_bytes = 0
    for name, size in zip(names, sizes, strict=True):
        if batch and num_bytes + size > READ_BYTES:
            yield batch
            batch, num_bytes = [], 0
        batch.append(name)
        num_bytes += size
    if batch:
        yield batch


async def _get(redis: Redis, *, key: str, names: list[str]) -> list[bytes | None]:
    return cast(list[bytes | None], await redis.hmget(key, names))
