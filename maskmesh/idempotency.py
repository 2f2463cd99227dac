"""Doing once what is asked twice."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
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


class Answers:
    """What keyed requests were answered, the last ``max_keys`` of them.  Used on one event loop only."""

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._known: dict[str, tuple[bytes, asyncio.Future[Any]]] = {}
        self._foreseen: dict[str, KeyedAnswer] = {}

    async def once(
        self,
        key: str,
        request: Message,
        work: Callable[[], Awaitable[T]],
        *,
        field: str = FIELD,
        scope: str = "",
    ) -> T:
        """What ``work`` returns, or what it returned for the same key and request before.

        Keyed work runs to its end also when whoever asked has left: who asks again wants its answer.
        What failed may be tried again with its key.  Without a key it is simply done.  Equal keys of other
        scopes are others.
        Raises InvalidRequest for a key that is too long, Conflict for one of another request.
        """
        if not key:
            return await work()
        if len(key) > MAX_KEY_LENGTH:
            raise InvalidRequest(f"a key has at most {MAX_KEY_LENGTH} characters", field=field)
        digest = request_digest(request)
        key = f"{scope}\0{key}" if scope else key
        if key in self._known:
            known_digest, answer = self._known[key]
            if known_digest != digest:
                raise Conflict("the key belongs to another request", field=field)
        else:
            answer = asyncio.ensure_future(work())
            self._known[key] = digest, answer
            answer.add_done_callback(lambda done: self._settled(key, digest, done))
        found: T = await asyncio.shield(answer)
        return found

    def known(self) -> list[KeyedAnswer]:
        """The answers that are remembered, the oldest first, and those that are foreseen."""
        settled = [
            KeyedAnswer(key, digest, answer.result())
            for key, (digest, answer) in self._known.items()
            if answer.done() and not answer.cancelled() and answer.exception() is None
        ]
        return settled + [a for a in self._foreseen.values() if a not in settled]

    def foresee(self, answer: KeyedAnswer) -> None:
        """Say what keyed work will return that has changed something already."""
        self._foreseen[answer.key] = answer

    def knows(self, key: str) -> bool:
        """Whether a request with this key was answered, or is being worked on."""
        return key in self._known

    def remember(self, answer: KeyedAnswer) -> None:
        """Take in an answer that was given elsewhere."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(answer.message)
        self._known[answer.key] = answer.request_digest, future

    def _settled(self, key: str, digest: bytes, task: "asyncio.Future[Any]") -> None:
        self._foreseen.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            self._known.pop(key, None)
        elif key in self._known:
            # The answer alone: a task keeps the context of its call.
            answer = task.get_loop().create_future()
            answer.set_result(task.result())
            self._known[key] = digest, answer
        done = [k for k, (_, known) in self._known.items() if known.done()]
        for k in done[: max(0, len(self._known) - self._max_keys)]:
            del self._known[k]


def request_digest(request: Message) -> bytes:
    """What tells one request from another."""
    content = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + content).digest()
