"""Doing once what is asked twice."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from maskmesh.errors import Conflict, InvalidRequest

T = TypeVar("T")

MAX_KEY_LENGTH = 128
MAX_KEYS = 64
FIELD = "idempotency_key"


class KeyedAnswer(NamedTuple):
    """The answer to a request that came with a key."""

    key: str
    request_digest: bytes
    message: Message


@dataclass(slots=True, eq=False)
class _Work:
    """What was asked with a key: done, or under way and waited for."""

    request_digest: bytes
    answer: "asyncio.Future[Any]"
    waiting: int = 0


class IdempotencyCache:
    """What keyed requests were answered, the last ``max_keys`` of them.  Used on one event loop only."""

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._known: dict[str, _Work] = {}
        self._foreseen: dict[str, KeyedAnswer] = {}

    async def once(
        self,
        key: str,
        request: Message,
        work: Callable[[], Awaitable[T]],
        *,
        field: str = FIELD,
        scope: str = "",
        may_stop: bool = False,
    ) -> T:
        """What ``work`` returns, or what it returned for the same key and request before.

        Keyed work runs to its end also when whoever asked has left: who asks again wants its answer.  Work
        that ``may_stop`` does so when nobody waits for it, unless it has foreseen its answer.
        What failed, or was stopped, may be tried again with its key.  Without a key it is simply done.  Equal
        keys of other scopes are others.
        Raises InvalidRequest for a key that is too long, Conflict for one of another request.
        """
        if not key:
            return await work()
        if len(key) > MAX_KEY_LENGTH:
            raise InvalidRequest(f"a key has at most {MAX_KEY_LENGTH} characters", field=field)
        digest = request_digest(request)
        key = f"{scope}\0{key}" if scope else key
        if key in self._known:
            asked = self._known[key]
            if asked.request_digest != digest:
                raise Conflict("the key belongs to another request", field=field)
        else:
            asked = _Work(digest, asyncio.ensure_future(work()))
            self._known[key] = asked
            asked.answer.add_done_callback(lambda _: self._settled(key, asked))
        asked.waiting += 1
        try:
            found: T = await asyncio.shield(asked.answer)
        finally:
            asked.waiting -= 1
            is_left = not asked.waiting and not asked.answer.done()
            if is_left and may_stop and key not in self._foreseen:
                asked.answer.cancel()
                del self._known[key]  # who asks from now on has it done anew
        return found

    def known(self) -> list[KeyedAnswer]:
        """The answers that are remembered, the oldest first, and those that are foreseen."""
        settled = [
            KeyedAnswer(key, work.request_digest, work.answer.result())
            for key, work in self._known.items()
            if work.answer.done() and not work.answer.cancelled() and work.answer.exception() is None
        ]
        return settled + [a for a in self._foreseen.values() if a not in settled]

    def commit(self, answer: KeyedAnswer) -> None:
        """Say what keyed work will return that has changed something already."""
        self._foreseen[answer.key] = answer

    def knows(self, key: str) -> bool:
        """Whether a request with this key was answered, or is being worked on."""
        return key in self._known

    def remember(self, answer: KeyedAnswer) -> None:
        """Take in an answer that was given elsewhere."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(answer.message)
        self._known[answer.key] = _Work(answer.request_digest, future)

    def _settled(self, key: str, work: _Work) -> None:
        if self._known.get(key) is not work:
            return  # it was stopped
        task = work.answer
        self._foreseen.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            del self._known[key]
        else:
            # The answer alone: a task keeps the context of its call.
            work.answer = task.get_loop().create_future()
            work.answer.set_result(task.result())
        done = [k for k, known in self._known.items() if known.answer.done()]
        for k in done[: max(0, len(self._known) - self._max_keys)]:
            del self._known[k]


def request_digest(request: Message) -> bytes:
    """What tells one request from another."""
    content = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + content).digest()
