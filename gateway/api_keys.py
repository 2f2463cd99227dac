"""Who calls, and what they may: API keys in a file, of which only digests are kept."""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from aiolimiter import AsyncLimiter
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from maskmesh.errors import ResourceExhausted, Unauthenticated
from maskmesh.types import DEFAULT_TENANT

logger = logging.getLogger(__name__)

HEADER = "authorization"
_SCHEME = "Bearer "

# So often is looked whether the file has changed.
LOOK_SECONDS = 1.0

# A burst of so many seconds' frames is let through.
BURST_SECONDS = 1.0

# So many frames of it are for who does not stream.
CLICKS = 1


class _Entry(BaseModel):
    """One ``[[key]]`` of the file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str = ""
    max_sessions: int | None = Field(None, ge=0)
    max_bytes: int | None = Field(None, ge=0)
    frames_per_second: float | None = Field(None, gt=0)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: list[_Entry]


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever has a key; without a file of keys everybody is the same one, who may do anything."""

    name: str = ""
    tenant: str = DEFAULT_TENANT
    max_sessions: int | None = None
    max_bytes: int | None = None
    """Of the frames that its sessions hold at once."""
    pace: AsyncLimiter | None = None
    """Frames that it may have worked on."""

    async def count_frame(self) -> None:
        """Count a frame that somebody waits for.  Raises ResourceExhausted where there were too many."""
        if self.pace is None:
            return
        if not self.pace.has_capacity():
            seconds = self.pace.time_period / self.pace.max_rate
            raise ResourceExhausted(
                "too many frames in a second", resource="frames_per_second", retry_seconds=seconds
            )
        await self.pace.acquire()

    async def keep_pace(self) -> None:
        """Count a frame of a stream, which waits until it may be worked on.

        Streams leave something for who clicks meanwhile, where there is more than one at a time.
        """
        if self.pace is None:
            return
        left = CLICKS if self.pace.max_rate > CLICKS else 0
        while not self.pace.has_capacity(1 + left):
            await asyncio.sleep(self.pace.time_period / self.pace.max_rate)
        await self.pace.acquire()


ANYBODY = Caller()

_current: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


def current_caller() -> Caller:
    """Who makes the current call."""
    return _current.get()


class Keys:
    """The keys of a file, which is read again when it has changed.

    The file is TOML: a ``[[key]]`` with ``name`` and ``sha256`` (of the key, in hexadecimal) for each, and,
    as one likes, ``tenant`` (by default the name), ``max_sessions``, ``max_bytes`` and
    ``frames_per_second``.  Limits hold for each gateway by itself.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be read, ValueError where it is not as it should be."""
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._looked = 0.0
        self._callers: dict[bytes, Caller] = {}
        self._read()

    def admit(self, metadata: Mapping[str, str]) -> None:
        """Note who makes the current call.  Raises Unauthenticated where nobody has that key."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            # A file that is wrong, or being written, changes nothing.
            with contextlib.suppress(OSError):
                try:
                    self._read()
                except ValueError as error:
                    logger.warning("the keys stay as they were: %s", error)
        value = metadata.get(HEADER, "")
        if not value.startswith(_SCHEME):
            raise Unauthenticated("this gateway asks for a key: authorization: Bearer KEY")
        found = hashlib.sha256(value.removeprefix(_SCHEME).encode()).digest()
        caller = None
        # All of them, whichever it is: how long it takes says nothing.
        for digest, known in self._callers.items():
            if hmac.compare_digest(digest, found):
                caller = known
        if caller is None:
            raise Unauthenticated("nobody has this key")
        _current.set(caller)

    def _read(self) -> None:
        self._looked = time.monotonic()
        stat = self._path.stat()
        seen = stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size
        if seen == self._seen:
            return
        try:
            entries = _File.model_validate(tomllib.loads(self._path.read_text())).key
        except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self._path}: {error}") from error
        before = {caller.name: caller for caller in self._callers.values()}
        self._callers = {bytes.fromhex(e.sha256): _caller(e, before.get(e.name)) for e in entries}
        self._seen = seen


def _caller(entry: _Entry, before: Caller | None) -> Caller:
    """Who has a key; what was counted of it before goes on."""
    pace = None
    if entry.frames_per_second is not None:
        burst = max(entry.frames_per_second * BURST_SECONDS, 1.0)
        pace = AsyncLimiter(burst, burst / entry.frames_per_second)
        if before is not None and before.pace is not None and before.pace.max_rate == burst:
            pace = before.pace
    return Caller(entry.name, entry.tenant or entry.name, entry.max_sessions, entry.max_bytes, pace)
