"""The components of an encoder: model, device, caches, shared memory."""

import asyncio
from dataclasses import dataclass

import torch

from encoder_svc.cache import EmbeddingCache
from encoder_svc.config import EncoderSettings
from encoder_svc.encoder import Encoder, EncoderDevice
from encoder_svc.model import point_backbone, weights
from encoder_svc.model.config import POINT_PRESETS, PRESETS
from encoder_svc.redis_embedding_cache import RedisEmbeddingCache
from maskmesh.nn.loading import POINT_HINT, load_model, point_settings
from maskmesh.rpc.addresses import reachable_address
from maskmesh.storage.redis_store import RedisStore

# Embeddings for points may take this part of the cache's budget in shared memory, besides the others.
POINT_SHARE = 1 / 4

# Timeout of a lookup in the shared cache; a slower lookup would not save time.
SHARED_CACHE_SECONDS = 0.25
SHARED_CACHE_PAUSE_SECONDS = 10.0


@dataclass(slots=True, kw_only=True)
class Components:
    """The components of a running encoder, created by :func:`start`."""

    settings: EncoderSettings
    address: str
    """The address at which trackers reach this encoder."""
    device: EncoderDevice
    encoder: Encoder
    """The encoder of the segmentation model."""
    point_encoder: Encoder | None
    """The encoder of the model for points; None if it is not configured."""
    cache: EmbeddingCache
    shared_cache: RedisEmbeddingCache | None
    """The cache that all encoder replicas share; None if it is not configured."""

    @property
    def encoders(self) -> list[Encoder]:
        """The encoders of all models."""
        return [self.encoder] + ([] if self.point_encoder is None else [self.point_encoder])

    async def close(self) -> None:
        """Stop the threads and delete the shared memory."""
        if self.shared_cache is not None:
            await self.shared_cache.close()
        await asyncio.to_thread(self.device.worker.close)
        for encoder in self.encoders:
            await asyncio.to_thread(encoder.close)


async def start(settings: EncoderSettings, port: int) -> Components:
    """Load the models, warm them up and create the caches; ``port`` is the port of the service.

    Raises CheckpointError, OSError.
    """
    loaded = await asyncio.to_thread(load_model, settings, PRESETS, weights.build)
    torch.set_num_threads(loaded.layout.threads)
    device = EncoderDevice.of(loaded.layout, settings)
    encoder = Encoder(loaded, settings, device)
    point_encoder = None
    if settings.point_model:
        points = await asyncio.to_thread(
            load_model, point_settings(settings), POINT_PRESETS, point_backbone.build, POINT_HINT
        )
        point_encoder = Encoder(points, settings, device)
    shares = [(encoder, settings.cache_bytes)]
    if point_encoder is not None:
        shares.append((point_encoder, int(settings.cache_bytes * POINT_SHARE)))
    for each, budget_bytes in shares:
        await each.warm_up()
        require_room(each, settings.cache_bytes)
        if settings.shared_memory_dir is not None:
            await asyncio.to_thread(each.share_memory, settings.shared_memory_dir, budget_bytes)
    return Components(
        settings=settings,
        address=settings.advertise or reachable_address(settings.host, port),
        device=device,
        encoder=encoder,
        point_encoder=point_encoder,
        cache=EmbeddingCache(settings.cache_bytes, wait_seconds=settings.cache_wait_seconds),
        shared_cache=_shared_cache(settings),
    )


def require_room(encoder: Encoder, cache_bytes: int) -> None:
    """Raises ValueError if the cache cannot hold one embedding of an encoder that is warm."""
    if encoder.num_bytes > cache_bytes:
        raise ValueError(
            f"cache_bytes is {cache_bytes}, and one embedding of {encoder.info.model_id} has "
            f"{encoder.num_bytes} bytes"
        )


def _shared_cache(settings: EncoderSettings) -> RedisEmbeddingCache | None:
    if not settings.cache_url:
        return None
    redis = RedisStore(
        settings.cache_url,
        name="shared cache",
        timeout_seconds=SHARED_CACHE_SECONDS,
        max_pause=SHARED_CACHE_PAUSE_SECONDS,
    )
    return RedisEmbeddingCache(
        redis, budget_bytes=settings.shared_cache_bytes, ttl_seconds=settings.shared_cache_seconds
    )
