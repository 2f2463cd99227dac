import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gateway.frames.frame_store import Addition, FrameLimits, FrameStore
from maskmesh import InvalidRequest, ResourceExhausted, SessionNotFound
from maskmesh.media.pictures import PixelLimit, image_size
from maskmesh.types import EncodedImage, RawImage

LIMITS = FrameLimits(max_bytes=100_000, max_frames=5, pixels=PixelLimit(10_000))


def jpeg(width: int = 30, height: int = 20, orientation: int = 1) -> EncodedImage:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height), (9, 99, 199)).save(file, "JPEG", exif=exif)
    return EncodedImage(file.getvalue())


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore("session", tmp_path, LIMITS)


def add(store: FrameStore, *images: EncodedImage | RawImage) -> int:
    addition = Addition(store)
    try:
        for image in images:
            addition.add_frame(image)
        return addition.commit()
    finally:
        addition.close()


async def test_frames_round_trip_through_the_store(store: FrameStore) -> None:
    raw = RawImage(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))
    assert add(store, jpeg(), raw) == 0
    assert add(store, jpeg()) == 2
    assert (store.num_frames, store.width, store.height) == (3, 30, 20)
    reader = store.open_reader()
    assert await reader.read(0) == jpeg()
    back = await reader.read(1)
    assert isinstance(back, RawImage)
    np.testing.assert_array_equal(back.pixels, raw.pixels)
    reader.close()


def test_failed_addition_stores_no_frames(store: FrameStore) -> None:
    add(store, jpeg())
    with pytest.raises(InvalidRequest):
        add(store, jpeg(), jpeg(40))
    assert store.num_frames == 1
    assert [p.name for p in store.folder.iterdir()] == ["0.image"]


def test_image_size_respects_exif_orientation() -> None:
    assert image_size(jpeg(orientation=1), LIMITS.pixels, field="frame") == (30, 20)
    assert image_size(jpeg(orientation=6), LIMITS.pixels, field="frame") == (20, 30)


def test_limits(store: FrameStore) -> None:
    with pytest.raises(ResourceExhausted) as caught:
        add(store, *[jpeg()] * 6)
    assert caught.value.metadata == {"resource": "frames"}
    noise = np.random.default_rng(0).integers(0, 255, (90, 110, 3), np.uint8)
    with pytest.raises(ResourceExhausted) as caught:
        add(store, *[RawImage(noise)] * 4)
    assert caught.value.metadata == {"resource": "bytes"}
    assert store.num_frames == 0


def test_video_and_images_cannot_be_mixed(store: FrameStore, clip: Path) -> None:
    add(store, jpeg())
    addition = Addition(store)
    with pytest.raises(InvalidRequest):
        addition.add_video_chunk(clip.read_bytes())
    addition.close()


async def test_close_deletes_the_folder(store: FrameStore) -> None:
    add(store, jpeg())
    reader = store.open_reader()
    await store.close()
    assert not store.folder.exists()
    with pytest.raises(SessionNotFound):
        await reader.read(0)
    with pytest.raises(SessionNotFound):
        await store.on_thread(Addition, store)
    reader.close()


async def test_close_waits_for_a_running_commit(store: FrameStore) -> None:
    addition = Addition(store)
    addition.add_frame(jpeg())
    commit = asyncio.ensure_future(store.on_thread(addition.commit))
    await asyncio.sleep(0)
    commit.cancel()
    await store.on_thread(addition.close)
    # The commit was in progress when it was cancelled, so it completes.
    assert store.num_frames == 1
    assert [p.name for p in store.folder.iterdir()] == ["0.image"]
