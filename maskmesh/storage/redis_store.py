"""A server of the Redis protocol (Redis, Valkey) that services share.

Whoever uses it goes on without it: every operation ends soon, and while the server is down each fails at
once.

Only services import this: the client of the protocol is no dependency of a plain install.
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

# What answers no sooner is down, and is asked again after a pause.
ANSWER_SECONDS = 1.0
CONNECT_SECONDS = 0.5
PAUSE_SECONDS = 0.5
STOP_SECONDS = 0.1


class StoreDown(ConnectionError):
    """The store does not answer, or not soon enough."""


class RedisStore:
    """One server.  Connects when it is first used, and again after a loss.  Used on one event loop only."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        answer_seconds: float = ANSWER_SECONDS,
        longest_pause: float = PAUSE_SECONDS,
    ) -> None:
        """``url`` as in ``redis://[user:password@]host:port/database``; ``name`` is for the log.

        An answer that takes longer than ``answer_seconds`` is a failure.  Pauses after failures grow up to
        ``longest_pause``.  Raises ValueError for another form of URL.
        """
        self._name = name
        self._longest_pause = longest_pause
        self._pause = PAUSE_SECONDS
        self._down_until = 0.0
        self._is_down = False
        self.failures = 0
        """Operations that failed since the start."""
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=answer_seconds,
            socket_connect_timeout=CONNECT_SECONDS,
            # Once more at once: a connection that was idle may have been lost without a word.
            retry=Retry(NoBackoff(), 1),
        )

    @property
    def is_down(self) -> bool:
        """Whether the last operation failed."""
        return self._is_down

    def script(self, text: str) -> AsyncScript:
        """A script that runs in the server as one step; called with :meth:`run`."""
        return self._redis.register_script(text)

    async def run(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """What an operation returns.  Raises StoreDown."""
        if time.monotonic() < self._down_until:
            self.failures += 1
            raise StoreDown(f"the {self._name} is down")
        try:
            result = await operation(self._redis)
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            self._down_until = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, self._longest_pause)
            if not self._is_down:
                logger.warning("the %s is down: %s", self._name, error)
            self._is_down = True
            raise StoreDown(f"the {self._name} is down: {error}") from error
        if self._is_down:
            logger.info("the %s is back", self._name)
            self._is_down = False
            self._pause = PAUSE_SECONDS
        return result

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


async def stop(task: "asyncio.Task[None]") -> None:
    """Cancel a task that uses a store, and wait until it is over.

    Once is not enough: the client of the protocol loses a cancellation that comes as an answer does.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_SECONDS)


def texts(fields: Mapping[Any, Any]) -> dict[str, str]:
    """A hash of texts as it is read."""
    return {_text(name): _text(value) for name, value in fields.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
