"""What an encoder says of itself to whoever collects metrics."""

import torch

from encoder_svc.cache import EmbeddingCache
from encoder_svc.encoder import Encoder
from encoder_svc.redis_embedding_cache import RedisEmbeddingCache
from maskmesh.telemetry import metrics
from maskmesh.telemetry.metrics import observe


def observe_encoder(encoder: Encoder, cache: EmbeddingCache, shared: RedisEmbeddingCache | None) -> None:
    """Queues, caches and memory; read whenever metrics are collected."""
    observe(
        metrics.QUEUE_DEPTH,
        lambda: {"device": encoder.num_waiting, "decoder": encoder.num_undecoded},
        by="queue",
        unit="{item}",
        description="Images that wait",
    )
    observe(
        "maskmesh.cache.size",
        lambda: {"used": cache.num_bytes, "pinned": cache.pinned_bytes, "budget": cache.budget_bytes},
        by="kind",
        unit="By",
        description="Bytes of the embedding cache",
    )
    observe(
        "maskmesh.cache.entries", lambda: len(cache), unit="{entry}", description="Embeddings in the cache"
    )
    statistics = cache.statistics
    observe(
        "maskmesh.cache.requests",
        lambda: {"hit": statistics.hits, "miss": statistics.misses, "joined": statistics.joined},
        by="outcome",
        unit="{request}",
        description="Requests for embeddings",
        counts=True,
    )
    observe(
        "maskmesh.cache.evictions",
        lambda: statistics.evictions,
        unit="{entry}",
        description="Embeddings that made room for others",
        counts=True,
    )
    if shared is not None:
        found = shared.statistics
        observe(
            "maskmesh.shared_cache.requests",
            lambda: {"hit": found.hits, "miss": found.misses, "passed_over": found.passed_over},
            by="outcome",
            unit="{request}",
            description="Requests to the cache that replicas share",
            counts=True,
        )
        observe(
            "maskmesh.shared_cache.writes",
            lambda: {"written": found.written, "not_written": found.not_written, "evicted": found.evictions},
            by="outcome",
            unit="{entry}",
            description="Embeddings that were to be put into the cache that replicas share",
            counts=True,
        )
        metrics.observe_store("cache", shared.store)
    device = encoder.info.device
    if device.startswith("cuda"):
        metrics.observe_device_memory(
            lambda: {
                "allocated": torch.cuda.memory_allocated(device),
                "reserved": torch.cuda.memory_reserved(device),
            }
        )
