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


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key.  Without a key file, every caller is :data:`ANYBODY`, which has no limits."""

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
        if self.rate is None:
            return
        reserved = RESERVED_FRAMES if self.rate.max_rate >= RESERVED_FRAMES + 1 else 0
        while not self.rate.has_capacity(1 + reserved):
            await asyncio.sleep(self.rate.time_period / self.rate.max_rate)
        await self.rate.acquire()


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
        previous = {caller.name: caller for caller in self._callers.values()}
        self._callers = {bytes.fromhex(e.sha256): _caller(e, previous.get(e.name)) for e in entries}


def _caller(entry: _Entry, previous: Caller | None) -> Caller:
    """Create the caller of an entry; the limiter of an unchanged rate is reused, with its count."""
    rate = None
    if entry.frames_per_second is not None:
        burst = max(entry.frames_per_second * BURST_SECONDS, 1.0)
        seconds = burst / entry.frames_per_second
        rate = AsyncLimiter(burst, seconds)
        known = None if previous is None else previous.rate
        if known is not None and (known.max_rate, known.time_period) == (burst, seconds):
            rate = known
    return Caller(
        entry.name, entry.tenant or entry.name, entry.max_sessions, entry.max_bytes, rate, entry.operator
    )
