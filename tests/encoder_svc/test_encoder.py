"""Batching, preemption, admission and shared memory in the encoder."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from encoder_svc.cache import Embedding
from encoder_svc.components import require_room
from encoder_svc.config import EncoderSettings
from encoder_svc.encoder import Encoder, EncoderDevice
from encoder_svc.metrics import encoder_queues
from encoder_svc.model import weights
from encoder_svc.model.config import PRESETS
from maskmesh import telemetry
from maskmesh.embedding_key import image_digest
from maskmesh.errors import ResourceExhausted
from maskmesh.nn.loading import load_model
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.storage.shared_memory import SharedArena
from maskmesh.types import RawImage

TOLERANCE = 1e-4


def settings(max_batch: int) -> EncoderSettings:
    return EncoderSettings(model="test", dtype="float32", threads=1, max_batch=max_batch)


@pytest.fixture
async def encoder() -> AsyncIterator[Encoder]:
    loaded = load_model(settings(4), PRESETS, weights.build)
    device = EncoderDevice.of(loaded.layout, settings(4))
    made = Encoder(loaded, settings(4), device)
    await made.warm_up()
    yield made
    await asyncio.to_thread(device.worker.close)
    await asyncio.to_thread(made.close)


def image(seed: int) -> RawImage:
    return RawImage(np.random.default_rng(seed).integers(0, 256, (96, 128, 3), np.uint8))


async def encode(
    encoder: Encoder,
    seed: int,
    recorder: telemetry.StageRecorder,
    priority: Priority = Priority.AHEAD,
) -> Embedding:
    ticket = QueueEntry(priority)
    return await encoder.encode(image(seed), key=image_digest(image(seed)), entry=ticket, recorder=recorder)


def values(embedding: Embedding) -> np.ndarray:
    return np.frombuffer(embedding.data, np.float32)


async def test_batched_images_match_single_images(encoder: Encoder) -> None:
    alone = [await encode(encoder, seed, encoder.recorder()) for seed in range(6)]
    recorders = [encoder.recorder() for _ in range(6)]
    together = await asyncio.gather(*(encode(encoder, seed, recorders[seed]) for seed in range(6)))
    for one, other in zip(alone, together, strict=True):
        largest = np.abs(values(one)).max()
        assert np.abs(values(one) - values(other)).max() < TOLERANCE * largest
    sizes = {
        r.attributes["maskmesh.batch.size"] for x in recorders for r in x.records if r.name == "image_encoder"
    }
    assert max(int(size) for size in sizes) > 1


async def test_preemption_does_not_change_embeddings(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = await encode(encoder, 0, encoder.recorder())
    monkeypatch.setattr(encoder._preemption, "_run_urgent_work", lambda: True)
    recorder = encoder.recorder()
    disturbed = await encode(encoder, 0, recorder)
    assert np.array_equal(values(disturbed), values(undisturbed))
    [stage] = [r for r in recorder.records if r.name == telemetry.IMAGE_ENCODER]
    # One preemption for each block of the preset.
    assert [wait.name for wait in stage.children] == [telemetry.QUEUE] * 5


async def test_decoded_and_undecoded_queue_is_bounded(encoder: Encoder) -> None:
    places = encoder.max_batch + settings(4).max_interactive_queue
    is_held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        is_held.set()
        let_go.wait()

    holding = asyncio.ensure_future(encoder._worker.run(hold))
    await asyncio.to_thread(is_held.wait)

    def click(seed: int) -> "asyncio.Future[Embedding]":
        return asyncio.ensure_future(encode(encoder, seed, encoder.recorder(), Priority.INTERACTIVE))

    clicks = [click(seed) for seed in range(places)]
    while encoder.num_queued < encoder.max_batch:
        await asyncio.sleep(0.01)
    assert encoder.num_undecoded > 0
    assert encoder.num_undecoded + encoder.num_queued == places
    with pytest.raises(ResourceExhausted):
        await click(places)
    clicks[-1].cancel()
    await asyncio.gather(clicks[-1], return_exceptions=True)
    assert encoder.num_undecoded + encoder.num_queued == places - 1
    let_go.set()
    await asyncio.gather(holding, *clicks[:-1])
    assert encoder.num_undecoded == encoder.num_queued == 0


async def test_embeddings_use_shared_memory_while_it_has_space(encoder: Encoder, tmp_path: Path) -> None:
    encoder.arena = SharedArena(
        tmp_path / "blocks", block_bytes=encoder.num_bytes, budget_bytes=2 * encoder.num_bytes + 2**16
    )
    made = [await encode(encoder, seed, encoder.recorder()) for seed in range(3)]
    assert [embedding.block is not None for embedding in made] == [True, True, False]
    expected = await encode(encoder, 0, encoder.recorder())
    assert np.array_equal(values(made[0]), values(expected))
    del made[1]
    assert (await encode(encoder, 4, encoder.recorder())).block is not None


async def test_cache_must_hold_one_embedding(encoder: Encoder) -> None:
    require_room(encoder, encoder.num_bytes)
    with pytest.raises(
        ValueError, match=f"cache_bytes is 1000, and one embedding of test.* {encoder.num_bytes}"
    ):
        require_room(encoder, 1000)


async def test_queue_of_the_decoder_includes_images_for_points(encoder: Encoder) -> None:
    """A service for points has a second encoder on the same device."""

    class Busy:
        num_queued = 9
        num_undecoded = 2

    assert encoder_queues([encoder, Busy()]) == {"device": 0, "decoder": 2}  # type: ignore[list-item]
