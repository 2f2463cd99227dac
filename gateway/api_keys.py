"""API keys and the limits of their owners.  The key file contains only digests of the keys."""

import asyncio
import hashlib
import hmac
import logging
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from aiolimiter import AsyncLimiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskmesh.errors import ResourceExhausted, Unauthenticated
from maskmesh.reloading import FileWatch
from maskmesh.scheduling.admission import retry_after
from maskmesh.types import DEFAULT_TENANT

logger = logging.getLogger(__name__)

HEADER = "authorization"
_SCHEME = "Bearer "

# A rate limit admits a burst of the frames of this many seconds.
BURST_SECONDS = 1.0

# Frames of a burst that are reserved for interactive calls.
RESERVED_FRAMES = 1


class _Entry(BaseModel):
    """One ``[[key]]`` table of the key file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str = ""
    max_sessions: int | None = Field(None, ge=0)
    max_bytes: int | None = Field(None, ge=0)
    frames_per_second: float | None = Field(None, gt=0)
    operator: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: list[_Entry]


@dataclass(slots=True, eq=False)
class Caller:
    """The owner of a key.  Without a key file, every caller is :data:`ANYBODY`, which has no limits.

    The limits change when the key file does, also for the sessions that the caller has.
    """

    name: str = ""
    tenant: str = DEFAULT_TENANT
    max_sessions: int | None = None
    max_bytes: int | None = None
    """Limit of the total size of the frames of its sessions, in bytes."""
    rate: AsyncLimiter | None = None
    """Limit of frames per second."""
    is_operator: bool = True
    """Whether it may see where services run, and how many sessions others have."""

    async def count_interactive_frame(self) -> None:
        """Count a frame of an interactive call.  Raises ResourceExhausted beyond the rate."""
        if self.rate is None:
            return
        if not self.rate.has_capacity():
            seconds = self.rate.time_period / self.rate.max_rate
            raise ResourceExhausted(
                "the frame rate limit of the key is exceeded",
                resource="frames_per_second",
                retry_seconds=retry_after(seconds, is_exact=True),
            )
        await self.rate.acquire()

    async def wait_for_stream_frame(self) -> None:
        """Count a frame of a stream, as soon as the rate admits it.

        ``RESERVED_FRAMES`` of a burst are reserved for interactive calls, if the burst has room for one more.
        """
        while (rate := self.rate) is not None:
            reserved = RESERVED_FRAMES if rate.max_rate >= RESERVED_FRAMES + 1 else 0
            if rate.has_capacity(1 + reserved):
                await rate.acquire()
                return
            await asyncio.sleep(rate.time_period / rate.max_rate)


ANYBODY = Caller()

_current: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current_caller() -> Caller:
    """The caller of the current call."""
    return _current.get()


class ApiKeys:
    """The keys of a key file, which is reloaded when it changes.

    The file is TOML, with a ``[[key]]`` for each key: ``name`` and ``sha256`` (of the key, in hexadecimal),
    and optionally ``tenant`` (by default the name), ``max_sessions``, ``max_bytes``,
    ``frames_per_second`` and ``operator`` (false by default: GetMesh then shows neither addresses nor
    sessions). Each gateway applies the limits separately.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be read, ValueError if its content is invalid."""
        self._path = path
        self._watch = FileWatch([path])
        self._callers: dict[bytes, Caller] = {}
        self._read()

    def authenticate(self, metadata: Mapping[str, str]) -> None:
        """Set the current caller from a call's metadata.  Raises Unauthenticated for an unknown key."""
        if (stamp := self._watch.poll()) is not None:
            try:
                self._read()
                self._watch.accept(stamp)
            except (OSError, ValueError) as error:
                logger.warning("the API keys are not reloaded: %s", error)
        value = metadata.get(HEADER, "")
        if not value.startswith(_SCHEME):
            raise Unauthenticated("this gateway requires an API key: authorization: Bearer KEY")
        digest = hashlib.sha256(value.removeprefix(_SCHEME).encode()).digest()
        caller = None
        # All digests are compared, so that the response time reveals nothing about the key.
        for known_digest, known_caller in self._callers.items():
            if hmac.compare_digest(known_digest, digest):
                caller = known_caller
        if caller is None:
            raise Unauthenticated("the API key is unknown")
        _current.set(caller)

    def _read(self) -> None:
        try:
            entries = _File.model_validate(tomllib.loads(self._path.read_text())).key
        except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self._path}: {error}") from error
        known = {(caller.name, caller.tenant): caller for caller in self._callers.values()}
        self._callers = {}
        for entry in entries:
            identity = entry.name, entry.tenant or entry.name
            caller = known.setdefault(identity, Caller(*identity))
            self._callers[bytes.fromhex(entry.sha256)] = caller
            caller.max_sessions, caller.max_bytes = entry.max_sessions, entry.max_bytes
            caller.rate = _limiter(entry.frames_per_second, caller.rate)
            caller.is_operator = entry.operator


def _limiter(frames_per_second: float | None, previous: AsyncLimiter | None) -> AsyncLimiter | None:
    """The limiter of a rate; the previous one if its rate is the same, with its count."""
    if frames_per_second is None:
        return None
    burst = max(frames_per_second * BURST_SECONDS, 1.0)
    seconds = burst / frames_per_second
    if previous is not None and (previous.max_rate, previous.time_period) == (burst, seconds):
        return previous
    return AsyncLimiter(burst, seconds)
