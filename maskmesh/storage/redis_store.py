"""A server of the Redis protocol (Redis, Valkey) that services share.

Services continue while it is down: every operation has a short timeout, and after a failure operations fail
at once until a pause is over.  Only services import this module.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Timeout of an operation, after which the server counts as down, and the pause before the next one.  A large
# operation has more time, at this rate.
TIMEOUT_SECONDS = 1.0
BYTES_PER_SECOND = 4 * 2**20
CONNECT_SECONDS = 0.5
PAUSE_SECONDS = 0.5


class StoreDown(ConnectionError):
    """The store does not respond in time."""


class RedisStore:
    """One server.  Connects on first use, and again after a loss.  Used on one event loop only."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        max_pause: float = PAUSE_SECONDS,
    ) -> None:
        """``url`` is ``redis://[user:password@]host:port/database``; ``name`` is for the log.

        An operation fails after ``timeout_seconds``.  Pauses after failures grow up to ``max_pause``.
        Raises ValueError for another form of URL.
        """
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._max_pause = max_pause
        self._pause = PAUSE_SECONDS
        self._down_until = 0.0
        self._is_down = False
        self.failures = 0
        """Failed operations since the start."""
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=CONNECT_SECONDS,
            # One retry at once, because an idle connection may have been lost unnoticed.
            retry=Retry(NoBackoff(), 1),
        )
        # A connection has one timeout, so large operations have connections of their own.
        self._patient_redis: Redis = Redis.from_url(
            url, socket_connect_timeout=CONNECT_SECONDS, retry=Retry(NoBackoff(), 1)
        )

    @property
    def is_down(self) -> bool:
        """Whether the last operation failed."""
        return self._is_down

    def script(self, text: str) -> AsyncScript:
        """A script that the server runs atomically; called with :meth:`run`."""
        return self._redis.register_script(text)

    async def run(self, operation: Callable[[Redis], Awaitable[T]], *, num_bytes: int = 0) -> T:
        """The result of an operation that sends ``num_bytes``.  Raises StoreDown."""
        if time.monotonic() < self._down_until:
            self.failures += 1
            raise StoreDown(f"the {self._name} is down")
        try:
            if num_bytes <= self._timeout_seconds * BYTES_PER_SECOND:
                result = await operation(self._redis)
            else:
                async with asyncio.timeout(self._timeout_seconds + num_bytes / BYTES_PER_SECOND):
                    result = await operation(self._patient_redis)
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            self._down_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, self._max_pause)
            if not self._is_down:
                logger.warning("the %s is down: %s", self._name, error)
            self._is_down = True
            raise StoreDown(f"the {self._name} is down: {error}") from error
        if self._is_down:
            logger.info("the %s is up again", self._name)
            self._is_down = False
            self._pause = PAUSE_SECONDS
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
        await self._patient_redis.aclose()


def texts(fields: Mapping[Any, Any]) -> dict[str, str]:
    """A hash of strings."""
    return {_text(name): _text(value) for name, value in fields.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
