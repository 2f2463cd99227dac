"""The components of a tracker: model, device, embeddings, sessions."""

import asyncio
import logging
from dataclasses import dataclass, replace

import torch

from maskmesh.nn.checkpoint import CheckpointError
from maskmesh.nn.loading import LoadedModel, load_model
from maskmesh.rpc.addresses import reachable_address
from maskmesh.scheduling.admission import AdmissionPolicy
from maskmesh.scheduling.batching import choose_batch
from maskmesh.scheduling.cpu_sharing import core_policy
from maskmesh.scheduling.device_worker import DeviceWorker
from maskmesh.scheduling.malloc import trim_heap
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.session_store import SessionStore
from maskmesh.types import ModelInfo
from tracker_svc.compute.concepts import ConceptFinder
from tracker_svc.compute.tokenizer import PhraseTokenizer
from tracker_svc.compute.tracker import Tracker
from tracker_svc.compute.warm_up import warm_up
from tracker_svc.config import TrackerSettings
from tracker_svc.embeddings.embedding_store import EmbeddingStore
from tracker_svc.embeddings.fetcher import EmbeddingFetcher
from tracker_svc.model import weights
from tracker_svc.model.config import PRESETS
from tracker_svc.model.tracking_model import TrackingModel
from tracker_svc.points.components import PointComponents, start_points
from tracker_svc.sessions.limits import SessionLimits
from tracker_svc.sessions.offloading import offload_idle
from tracker_svc.sessions.session_registry import SessionRegistry
from tracker_svc.sessions.session_table import SessionTable

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Components:
    """The components of a running tracker, created by :func:`start`."""

    settings: TrackerSettings
    info: ModelInfo
    tracker: Tracker
    concepts: ConceptFinder | None
    """The concept detector; None if the model has none."""
    worker: DeviceWorker
    embeddings: EmbeddingStore
    points: PointComponents | None
    """What follows points; None if no model for points is configured."""
    sessions: SessionTable
    registry: SessionRegistry
    store: RedisStore | None
    """The session store; None if it is not configured."""
    scratch: ScratchFolder
    tasks: "list[asyncio.Task[None]]"
    """They end sessions that are not used, and move idle ones to disk."""

    async def close(self) -> None:
        """Stop the thread and close the connections."""
        for task in self.tasks:
            task.cancel()
        await self.registry.close()
        if self.store is not None:
            await self.store.close()
        await self.embeddings.close()
        if self.points is not None:
            await self.points.close()
        for part in (self.worker, self.sessions, self.scratch):
            await asyncio.to_thread(part.close)


async def start(settings: TrackerSettings, port: int) -> Components:
    """Load the model, warm it up and create the other components; ``port`` is the port of the service.

    Raises CheckpointError, OSError.
    """
    loaded = await asyncio.to_thread(load_model, settings, PRESETS, weights.build)
    torch.set_num_threads(loaded.layout.threads)
    cores = core_policy(settings.shared_cores, "tracker", loaded.layout, torch.set_num_threads)
    worker = DeviceWorker(
        "tracker-device",
        policy=AdmissionPolicy(settings.max_interactive_queue, settings.max_queue),
        cores=cores,
        on_idle=trim_heap,
    )
    max_batch = choose_batch(settings.max_batch, device=loaded.info.device, image_size=loaded.info.image_size)
    concepts = await asyncio.to_thread(concept_finder, settings, loaded)
    tracker = Tracker(
        loaded.model, finder=concepts, run_urgent_work=worker.run_urgent_work, max_batch=max_batch
    )
    scratch = ScratchFolder("maskmesh-tracker-", settings.data_dir)
    sessions = _session_table(settings, scratch, loaded)
    store = RedisStore(settings.session_url, name="session store") if settings.session_url else None
    registry = SessionRegistry(
        sessions,
        None if store is None else SessionStore(store),
        address=settings.advertise or reachable_address(settings.host, port),
        model_id=loaded.info.model_id,
        device=loaded.device,
        budget_bytes=settings.session_store_bytes,
    )
    seconds = await warm_up(tracker, concepts, worker, cores, max_batch=max_batch)
    info = replace(loaded.info, warm_up_seconds=seconds)
    logger.info(
        "%s on %s in %s with %d threads, warm after %.2f s",
        info.model_id, info.device, info.dtype, info.threads, seconds,
    )  # fmt: skip
    return Components(
        settings=settings,
        info=info,
        tracker=tracker,
        concepts=concepts,
        worker=worker,
        embeddings=EmbeddingStore(
            _fetcher(settings, loaded.device),
            model_id=info.model_id,
            budget_bytes=settings.embedding_bytes,
        ),
        points=await start_points(settings, _fetcher(settings, loaded.device), worker, cores),
        sessions=sessions,
        registry=registry,
        store=store,
        scratch=scratch,
        tasks=_background(sessions, settings.offload_seconds),
    )


def concept_finder(settings: TrackerSettings, loaded: LoadedModel[TrackingModel]) -> ConceptFinder | None:
    """The concept detector of the model, if it has one.

    Raises CheckpointError if its vocabulary is missing or is none, OSError if the file cannot be read.
    """
    detector = loaded.model.detector
    if detector is None:
        return None
    length = detector.config.context_length
    path = settings.vocabulary
    if path is None and loaded.checkpoint is not None:
        beside = loaded.checkpoint.with_name("tokenizer.json")
        path = beside if beside.is_file() else None
    if path is None:
        if loaded.info.trained:
            raise CheckpointError(
                f"{loaded.info.name} needs its vocabulary: set --vocabulary to tokenizer.json, or to CLIP's "
                "bpe_simple_vocab_16e6.txt.gz, or put tokenizer.json beside the checkpoint"
            )
        return ConceptFinder(detector, PhraseTokenizer.of_bytes(context_length=length))
    try:
        tokenizer = PhraseTokenizer.load(path, context_length=length)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    expected = detector.config.vocabulary
    if tokenizer.size > expected or (loaded.info.trained and tokenizer.size != expected):
        raise CheckpointError(f"{path.name} has {tokenizer.size} tokens, {loaded.info.name} has {expected}")
    return ConceptFinder(detector, tokenizer)


def _fetcher(settings: TrackerSettings, device: torch.device) -> EmbeddingFetcher:
    return EmbeddingFetcher(
        device=device,
        max_message_bytes=settings.max_message_bytes,
        shared_memory_dir=settings.shared_memory_dir,
        tls=settings.tls,
    )


def _session_table(
    settings: TrackerSettings, scratch: ScratchFolder, loaded: LoadedModel[TrackingModel]
) -> SessionTable:
    return SessionTable(
        max_sessions=settings.max_sessions,
        ttl_seconds=settings.session_ttl_seconds,
        limits=SessionLimits(
            max_objects=settings.max_objects,
            max_prompted_frames=settings.max_prompted_frames,
            max_history=settings.max_history,
            disk_bytes=settings.session_disk_bytes,
            recent_frames=settings.recent_frames,
            memory_rules=replace(loaded.model.memory_rules, recent_memories=settings.memory_frames),
        ),
        folder=scratch.path,
        device=loaded.device,
    )


def _background(sessions: SessionTable, offload_seconds: float) -> "list[asyncio.Task[None]]":
    work = [_sweep(sessions)]
    if offload_seconds:
        work.append(offload_idle(sessions, offload_seconds))
    return [asyncio.ensure_future(each) for each in work]


async def _sweep(sessions: SessionTable) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        if expired := sessions.sweep():
            logger.info("%d sessions expired", expired)
