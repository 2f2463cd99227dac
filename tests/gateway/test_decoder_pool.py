"""Decoders of all sessions are bounded in number; the frames stay right."""

import threading
from pathlib import Path

import pytest

from gateway.frames.decoder_pool import DecoderPool
from gateway.frames.frame_store import Addition, FrameLimits, FrameStore
from maskmesh import ResourceExhausted
from maskmesh.media.pictures import PixelLimit
from maskmesh.media.video_index import index_video
from maskmesh.media.video_reader import VideoReader
from maskmesh.types import RawImage
from tests.corpus.pictures import picture
from tests.corpus.video_files import column, seen_column, write
from tests.gateway.test_frame_store import jpeg

# Two decoders of a small video fit.
TWO_DECODERS = 2 * 5 * 2**20
LIMITS = FrameLimits(max_bytes=10**7, max_frames=1000, pixels=PixelLimit(10**6))


async def test_eight_sessions_share_two_decoders(tmp_path: Path) -> None:
    data = write(tmp_path / "v.mkv").read_bytes()
    pool = DecoderPool(TWO_DECODERS)
    stores = [FrameStore(f"session {i}", tmp_path, LIMITS, pool) for i in range(8)]
    readers = []
    for store in stores:
        addition = Addition(store)
        addition.add_video_chunk(data)
        addition.commit()
        readers.append(store.open_reader())
        await readers[-1].prepare()
    for index in (5, 30, 6, 7):
        for reader in readers:
            image = await reader.read(index)
            assert isinstance(image, RawImage)
            assert round(seen_column(image.pixels)) == column(index)
            assert pool.num_open <= 2
    for reader in readers:
        reader.close()
    for store in stores:
        await store.close()


def test_readers_in_use_are_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mkv", range(3))
    pool = DecoderPool(1)
    first, second = (VideoReader(path, index_video(path)) for _ in range(2))
    entered = threading.Event()

    def use_second() -> None:
        with pool.use(second):
            entered.set()

    thread = threading.Thread(target=use_second)
    with pool.use(first):  # larger than the budget, and alone
        thread.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()
    pool.close(first)
    pool.close(second)
    assert pool.num_open == 0


async def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FrameStore("session", tmp_path, LIMITS)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(ResourceExhausted, match=r"disk of the gateway is full .*MASKMESH_GATEWAY_DATA_DIR"):
        Addition(store).add_frame(jpeg())
    with pytest.raises(ResourceExhausted, match="disk of the gateway is full"):
        Addition(store).add_video_chunk(picture())
    monkeypatch.undo()
    await store.close()
