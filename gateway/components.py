"""The components of a gateway: backends, sessions, store."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import grpc

from gateway.backends.encoder_pools import EncoderPools
from gateway.backends.encoders import POINTS, EncoderRing, Encoders
from gateway.backends.trackers import Trackers
from gateway.config import GatewaySettings
from gateway.erase.erase_view import Erasers
from gateway.erase.fill import Filler
from gateway.erase.model_fill import ModelFiller
from gateway.frames.decoder_pool import DecoderPool
from gateway.frames.frame_store import FrameLimits
from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.session_router import SessionRouter
from gateway.sessions.session_table import GatewaySessionTable
from gateway.warm_up import warm_up
from maskmesh.errors import MaskmeshError
from maskmesh.storage.redis_store import RedisStore
from maskmesh.storage.scratch import ScratchFolder
from maskmesh.storage.session_store import SessionStore
from maskmesh.telemetry.metrics import observe, observe_store
from maskmesh.types import ModelInfo

logger = logging.getLogger(__name__)

PROBE_PAUSE_SECONDS = 0.2


@dataclass(slots=True, kw_only=True)
class Components:
    """The components of a running gateway, created by :func:`start`."""

    model: ModelInfo = field(init=False)
    encoders: Encoders
    point_encoders: Encoders
    encoder_services: Sequence[Encoders]
    """The encoders of images, and those of points if they are other services."""
    trackers: Trackers
    router: SessionRouter
    sessions: GatewaySessionTable
    lifecycle: Lifecycle
    redis: RedisStore | None
    """The server of the session store; None if it is not configured."""
    scratch: ScratchFolder
    erasers: Erasers

    async def close(self) -> None:
        """Delete the frames and close the connections."""
        await self.lifecycle.close()
        await asyncio.to_thread(self.erasers.close)
        await asyncio.to_thread(self.scratch.close)
        await self.trackers.close()
        await self.encoders.close()
        await self.point_encoders.close()
        if self.redis is not None:
            await self.redis.close()


async def start(settings: GatewaySettings) -> Components:
    """Connect to the services, wait until they are ready, and warm up.

    Raises ValueError if encoders and trackers have different models or the inpainting model cannot be used,
    OSError if certificate files or the folder of frames cannot be used.
    """
    encoders = _encoders(settings)
    has_point_services = settings.point_encoder not in ("", settings.encoder)
    point_encoders = EncoderRing(
        settings.point_encoder or settings.encoder,
        max_message_bytes=settings.max_message_bytes,
        tls=settings.tls,
        family=POINTS,
    )
    trackers = Trackers(settings.tracker, max_message_bytes=settings.max_message_bytes, tls=settings.tls)
    redis, store = None, None
    if settings.session_url:
        redis = RedisStore(settings.session_url, name="session store")
        store = SessionStore(redis)
        observe_store("sessions", redis)
    router = SessionRouter(trackers, store)
    scratch = ScratchFolder("maskmesh-gateway-", settings.data_dir)
    sessions = GatewaySessionTable(
        folder=scratch.path,
        limits=FrameLimits(settings.max_session_bytes, settings.max_frames, settings.pixel_limit),
        decoders=DecoderPool(settings.decoder_bytes),
        store=store,
        max_sessions=settings.max_sessions,
    )
    lifecycle = Lifecycle(sessions, encoders, router, store, ttl_seconds=settings.session_ttl_seconds)
    observe(
        "maskmesh.sessions",
        lambda: {"open": len(sessions), "limit": settings.max_sessions},
        by="kind",
        unit="{session}",
        description="Sessions whose frames are at this gateway",
    )
    components = Components(
        encoders=encoders,
        point_encoders=point_encoders,
        encoder_services=[encoders, *([point_encoders] if has_point_services else [])],
        trackers=trackers,
        router=router,
        sessions=sessions,
        lifecycle=lifecycle,
        redis=redis,
        scratch=scratch,
        erasers=await asyncio.to_thread(_erasers, settings),
    )
    try:
        encoder_model = await _wait_for_model(encoders.model)
        components.model = model = await _wait_for_model(trackers.model)
        if encoder_model.model_id != model.model_id:
            raise ValueError(f"the encoder runs {encoder_model.model_id}, the tracker {model.model_id}")
        await warm_up(encoders, router, scratch.path)
    except BaseException:
        await components.close()
        raise
    return components


def _erasers(settings: GatewaySettings) -> Erasers:
    """The threads that erase.  Raises ValueError if the inpainting model cannot be used."""
    filler: Filler | None = None
    if settings.erase_model is not None:
        try:
            filler = ModelFiller(settings.erase_model)
        except ImportError as error:
            raise ValueError(
                "--erase-model needs onnxruntime: pip install 'maskmesh[erase-model]'"
            ) from error
    return Erasers(settings.erase_threads, settings.max_erasers, filler)


def _encoders(settings: GatewaySettings) -> Encoders:
    """The encoders of the settings, with those for overflow if there are any."""
    ring = partial(EncoderRing, max_message_bytes=settings.max_message_bytes, tls=settings.tls)
    first = ring(settings.encoder)
    return EncoderPools(first, ring(settings.overflow_encoder)) if settings.overflow_encoder else first


async def _wait_for_model(model: Callable[[], Awaitable[ModelInfo]]) -> ModelInfo:
    """The model of a service, as soon as the service is ready."""
    while True:
        try:
            return await model()
        except (MaskmeshError, grpc.RpcError) as error:
            logger.info("the gateway waits for a service: %s", error)
            await asyncio.sleep(PROBE_PAUSE_SECONDS)
