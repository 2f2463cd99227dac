"""What a tracker is made of: model, device, embeddings, sessions."""

import asyncio
import logging
from dataclasses import replace

import torch

from maskmesh.malloc import trim_heap
from maskmesh.rpc.server import reachable_address
from maskmesh.scheduling.admission import AdmissionPolicy
from maskmesh.scheduling.batching import choose_batch
from maskmesh.scheduling.cores import share_cores
from maskmesh.scheduling.device_worker import DeviceWorker
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.session_store import SessionStore
from maskmesh.types import ModelInfo
from tracker_svc.compute.loading import load_model
from tracker_svc.compute.stepping import Stepper
from tracker_svc.compute.tracker import Tracker
from tracker_svc.compute.warm_up import warm_up
from tracker_svc.config import TrackerSettings
from tracker_svc.embeddings.embedding_store import EmbeddingStore
from tracker_svc.embeddings.fetcher import EmbeddingFetcher
from tracker_svc.sessions.session import SessionLimits, SessionTable
from tracker_svc.sessions.session_registry import SessionRegistry

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0


class Components:
    """Everything behind the calls of a tracker; complete once :meth:`start` has returned."""

    info: ModelInfo
    tracker: Tracker
    stepper: Stepper
    worker: DeviceWorker
    embeddings: EmbeddingStore
    sessions: SessionTable
    registry: SessionRegistry

    def __init__(self, settings: TrackerSettings) -> None:
        self.settings = settings
        self._store: RedisStore | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def store(self) -> RedisStore | None:
        """Where sessions are kept, if they are."""
        return self._store

    @property
    def keeps_sessions(self) -> bool:
        """Whether sessions are kept in a store, where another tracker finds them."""
        return self._store is not None

    async def start(self, port: int) -> None:
        """Load the model and warm it up."""
        settings = self.settings
        loaded = await asyncio.to_thread(load_model, settings)
        torch.set_num_threads(loaded.layout.threads)
        cores = share_cores(settings.shared_cores, "tracker", loaded.layout, torch.set_num_threads)
        self.worker = DeviceWorker(
            "tracker-device",
            limits=AdmissionPolicy(settings.max_interactive_queue, settings.max_queue),
            cores=cores,
            when_idle=trim_heap,
        )
        self.tracker = Tracker(loaded.model, self.worker.run_urgent_work)
        max_batch = choose_batch(
            settings.max_batch, device=loaded.info.device, image_size=loaded.info.image_size
        )
        self.stepper = Stepper(self.tracker, self.worker, max_batch=max_batch)
        fetcher = EmbeddingFetcher(
            device=loaded.model.device,
            max_message_bytes=settings.max_message_bytes,
            shared_memory_dir=settings.shared_memory_dir,
            tls=settings.tls,
        )
        self.embeddings = EmbeddingStore(
            fetcher, model_id=loaded.info.model_id, budget_bytes=settings.embedding_bytes
        )
        self._scratch = ScratchFolder("maskmesh-tracker-", settings.data_dir)
        self.sessions = SessionTable(
            max_sessions=settings.max_sessions,
            ttl_seconds=settings.session_ttl_seconds,
            limits=SessionLimits(
                max_objects=settings.max_objects,
                max_prompted_frames=settings.max_prompted_frames,
                max_history=settings.max_history,
                disk_bytes=settings.session_disk_bytes,
                recent_frames=settings.recent_frames,
            ),
            folder=self._scratch.path,
            device=loaded.model.device,
        )
        if settings.session_url:
            self._store = RedisStore(settings.session_url, name="session store")
        self.registry = SessionRegistry(
            self.sessions,
            None if self._store is None else SessionStore(self._store),
            address=settings.advertise or reachable_address(settings.host, port),
            model_id=loaded.info.model_id,
            device=loaded.model.device,
            budget_bytes=settings.session_store_bytes,
        )
        seconds = await warm_up(self.tracker, self.worker, max_batch=max_batch, cores=cores)
        self.info = replace(loaded.info, warm_up_seconds=seconds)
        logger.info(
            "%s on %s in %s with %d threads, warm after %.2f s",
            self.info.model_id, self.info.device, self.info.dtype, self.info.threads, seconds,
        )  # fmt: skip
        self._sweeper = asyncio.ensure_future(self._sweep())

    async def close(self) -> None:
        """Stop the thread and close the connections."""
        if self._sweeper is None:
            return
        self._sweeper.cancel()
        await self.registry.close()
        if self._store is not None:
            await self._store.close()
        await self.embeddings.close()
        for part in (self.worker, self.sessions, self._scratch):
            await asyncio.to_thread(part.close)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            if expired := self.sessions.sweep():
                logger.info("%d sessions expired", expired)
