"""Encoders of unequal strength: slower ones take what the fast ones would finish later."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.backends.encoders import Encoded, EncodeOptions, EncoderRing, Encoders
from maskmesh import telemetry
from maskmesh.errors import ResourceExhausted, Unavailable
from maskmesh.status import ServiceStatus
from maskmesh.types import Image, ModelInfo

logger = logging.getLogger(__name__)

# Weight of the latest image in the mean time of an encode.
SMOOTHING = 0.1

# A replica that made no embedding for this long does not count.
REPLICA_SECONDS = 60.0

# The slower pool must be predicted to be faster by this factor, because predictions are not exact.
MARGIN = 0.8

# How long the second pool gets no image after it could not be reached.
PAUSE_SECONDS = 30.0


@dataclass(slots=True)
class _Pool:
    """One pool, and what this gateway has measured of it."""

    ring: EncoderRing
    in_flight: int = 0
    seconds_each: float | None = None
    """Mean time of an encode; None before the first one."""
    seen: dict[str, float] = field(default_factory=dict)
    """When each replica made its last embedding, on the monotonic clock."""
    usable_at: float = 0.0
    """When it gets images again, on the monotonic clock."""

    @property
    def is_usable(self) -> bool:
        return time.monotonic() >= self.usable_at

    @property
    def num_replicas(self) -> int:
        """The replicas that made embeddings lately, at least 1."""
        now = time.monotonic()
        return sum(now - last < REPLICA_SECONDS for last in self.seen.values()) or 1

    def predicted_seconds(self) -> float:
        """When one more image would be done, if images are spread over the replicas."""
        return (self.in_flight // self.num_replicas + 1) * (self.seconds_each or 0.0)

    async def compute(
        self, image: Image, key: str, options: EncodeOptions, work: telemetry.WorkSummary, *, retries: bool
    ) -> Encoded:
        """Encode an image, and measure how long that takes; a hit of a cache has no time."""
        self.in_flight += 1
        try:
            encoded = await self.ring.compute(image, key, options, work, retries=retries)
        finally:
            self.in_flight -= 1
        self.seen[encoded.ref.address] = time.monotonic()
        seconds = encoded.stage_seconds.get(telemetry.IMAGE_ENCODER)
        if seconds is not None:
            mean = seconds if self.seconds_each is None else self.seconds_each
            self.seconds_each = mean + SMOOTHING * (seconds - mean)
        return encoded


class EncoderPools(Encoders):
    """Encoders with a second pool for overflow.

    An image goes to the second pool only if that is predicted to be done earlier there, from the measured
    times and the images in progress; so slow encoders never hold up an image that a fast one would do sooner.
    The caches of the first pool are asked first.  A second pool that cannot be reached, or that has another
    model, costs nothing but its help.
    """

    def __init__(self, first: EncoderRing, overflow: EncoderRing) -> None:
        self._first, self._overflow = _Pool(first), _Pool(overflow)
        self._model_id = ""

    async def encode(self, image: Image, key: str, options: EncodeOptions) -> Encoded:
        work = telemetry.WorkSummary()
        has_room = self._overflow.is_usable and self._overflow.in_flight < self._overflow.num_replicas
        try:
            cached = await self._first.ring.look_up(key, options, work, retries=not has_room)
            if cached is not None:
                return cached
            takes_overflow = self._would_be_sooner()
        except (ResourceExhausted, Unavailable):
            # The first pool is full or away: better a slow encoder that is idle than none.
            if not has_room:
                raise
            takes_overflow = True
        if takes_overflow:
            encoded = await self._try_overflow(image, key, options, work)
            if encoded is not None:
                return encoded
        return await self._first.compute(image, key, options, work, retries=True)

    async def unpin(self, owner: str, tenant: str, address: str, keys: Sequence[str] = ()) -> None:
        await self._first.ring.unpin(owner, tenant, address, keys)

    async def model(self) -> ModelInfo:
        """The model of the first pool, which the second one must have too."""
        model = await self._first.ring.model()
        self._model_id = model.model_id
        return model

    async def statuses(self, timeout: float) -> list[ServiceStatus]:
        first, overflow = await asyncio.gather(
            *(pool.ring.statuses(timeout) for pool in (self._first, self._overflow))
        )
        return [*first, *overflow]

    async def close(self) -> None:
        for pool in (self._first, self._overflow):
            await pool.ring.close()

    def _would_be_sooner(self) -> bool:
        """Whether the second pool would be done sooner; true before its first image, to measure it."""
        first, overflow = self._first, self._overflow
        if not overflow.is_usable or first.seconds_each is None:
            return False
        if overflow.seconds_each is None:
            return overflow.in_flight == 0
        return overflow.predicted_seconds() < MARGIN * first.predicted_seconds()

    async def _try_overflow(
        self, image: Image, key: str, options: EncodeOptions, work: telemetry.WorkSummary
    ) -> Encoded | None:
        """The embedding of the second pool; None if it cannot be used, and then not for a while."""
        pool = self._overflow
        try:
            encoded = await pool.compute(image, key, options, work, retries=False)
        except (Unavailable, ResourceExhausted) as error:
            reason = str(error)
        else:
            if not self._model_id or encoded.ref.model_id == self._model_id:
                return encoded
            reason = f"they run {encoded.ref.model_id}, the others {self._model_id}"
        logger.warning("encoders for overflow are not used for %.0f s: %s", PAUSE_SECONDS, reason)
        pool.usable_at = time.monotonic() + PAUSE_SECONDS
        return None
