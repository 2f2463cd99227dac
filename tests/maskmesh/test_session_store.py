"""Sessions in a real store: large ones are written and read within the timeout of each step."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from maskmesh.storage.hash_fields import READ_BYTES, batches
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.session_record import Owner, SessionDelta, SessionRecord, WriteResult
from maskmesh.storage.session_store import SessionStore
from tests.proxy import running_proxy
from tests.redis_server import needs_redis, running_redis

OWNER = Owner("127.0.0.1:1", 1)

# A slow line: one step may take TIMEOUT_SECONDS, all states take several times as long.
BYTES_PER_SECOND = 2**21
TIMEOUT_SECONDS = 0.4
STATES = {f"state.{number}": bytes([number]) * 2**16 for number in range(16)}


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SessionStore]:
    monkeypatch.setattr("maskmesh.storage.hash_fields.READ_BYTES", 2**17)
    monkeypatch.setattr("maskmesh.storage.redis_store.BYTES_PER_SECOND", 2**18)
    async with running_redis(tmp_path) as server, running_proxy(bytes_per_second=BYTES_PER_SECOND) as line:
        line.target = int(server.url.rsplit(":", 1)[1].partition("/")[0])
        redis = RedisStore(
            f"redis://127.0.0.1:{line.port}/0", name="session store", timeout_seconds=TIMEOUT_SECONDS
        )
        yield SessionStore(redis)
        await redis.close()


@needs_redis
async def test_large_session_is_written_and_read(store: SessionStore) -> None:
    await store.create(SessionRecord("a", OWNER, 60.0))
    delta = SessionDelta(b"snapshot", STATES, is_full=True)
    assert await store.write("a", OWNER, 60.0, delta) is WriteResult.DONE
    found = await store.read("a", OWNER.epoch)
    assert found is not None
    assert found.snapshot == b"snapshot"
    assert found.fields == STATES


@needs_redis
async def test_large_frames_are_written_and_read(store: SessionStore) -> None:
    await store.create(SessionRecord("a", OWNER, 60.0))
    await store.put_frames("a", STATES, {})
    found = await store.get_frames("a", [*STATES, "missing"])
    assert found == [*STATES.values(), None]


def test_fields_are_read_in_batches() -> None:
    sizes = [READ_BYTES // 2, READ_BYTES // 2, 1, 3 * READ_BYTES, 0, READ_BYTES]
    assert list(batches("abcdef", sizes)) == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    assert not list(batches([], []))
