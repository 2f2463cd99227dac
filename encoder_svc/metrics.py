"""Metrics and state of the encoder service."""

import time
from collections.abc import Sequence

from encoder_svc.cache import EmbeddingCache
from encoder_svc.encoder import Encoder
from encoder_svc.redis_embedding_cache import RedisEmbeddingCache
from maskmesh.nn.device import device_memory, observe_device_memory
from maskmesh.scheduling.process_usage import process_usage
from maskmesh.status import CacheStatus, ServiceStatus
from maskmesh.telemetry import metrics, this_host
from maskmesh.telemetry.metrics import observe
from maskmesh.version import __version__


def observe_encoders(
    encoders: Sequence[Encoder], cache: EmbeddingCache, shared: RedisEmbeddingCache | None
) -> None:
    """Register metrics of queues, caches and device memory; values are read at each collection.

    The encoders share one device.
    """
    observe(
        metrics.QUEUE_DEPTH,
        lambda: encoder_queues(encoders),
        by="queue",
        unit="{item}",
        description="Images in the queue",
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
        description="Embeddings that were evicted",
        counts=True,
    )
    if shared is not None:
        shared_statistics = shared.statistics
        observe(
            "maskmesh.shared_cache.requests",
            lambda: {
                "hit": shared_statistics.hits,
                "miss": shared_statistics.misses,
                "passed_over": shared_statistics.passed_over,
            },
            by="outcome",
            unit="{request}",
            description="Lookups in the shared embedding cache",
            counts=True,
        )
        observe(
            "maskmesh.shared_cache.writes",
            lambda: {
                "written": shared_statistics.written,
                "not_written": shared_statistics.not_written,
                "evicted": shared_statistics.evictions,
            },
            by="outcome",
            unit="{entry}",
            description="Writes to the shared embedding cache",
            counts=True,
        )
        metrics.observe_store("cache", shared.store)
    observe_device_memory(encoders[0].info.device)


def encoder_queues(encoders: Sequence[Encoder]) -> dict[str, int]:
    """The images that wait for the device that the encoders share, and those that wait to be decoded."""
    return {
        "device": encoders[0].num_queued,
        "decoder": sum(encoder.num_undecoded for encoder in encoders),
    }


def encoder_status(
    encoders: Sequence[Encoder], cache: EmbeddingCache, shared: RedisEmbeddingCache | None
) -> ServiceStatus:
    """The state of the service; the first encoder's model is that of the service."""
    encoder = encoders[0]
    statistics = cache.statistics
    return ServiceStatus(
        kind="encoder",
        version=__version__,
        host=this_host(),
        model=encoder.info,
        usage=process_usage(),
        device_memory=device_memory(encoder.info.device),
        queues=encoder_queues(encoders),
        cache=CacheStatus(
            hits=statistics.hits,
            misses=statistics.misses,
            joined=statistics.joined,
            evictions=statistics.evictions,
            entries=len(cache),
            used_bytes=cache.num_bytes,
            pinned_bytes=cache.pinned_bytes,
            budget_bytes=cache.budget_bytes,
            shared_hits=0 if shared is None else shared.statistics.hits,
        ),
        unix_nanos=time.time_ns(),
    )
