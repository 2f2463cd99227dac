"""Idempotency: a request that is sent twice with one key is carried out once."""

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


class KeyedResponse(NamedTuple):
    """The response to a request with an idempotency key."""

    key: str
    request_digest: bytes
    message: Message


@dataclass(slots=True, eq=False)
class _KeyedWork:
    """The work of a key: finished, or in progress with callers that wait."""

    request_digest: bytes
    response: "asyncio.Future[Any]"
    num_callers: int = 0


class IdempotencyCache:
    """Responses by idempotency key, the last ``max_keys`` of them.  Used on one event loop only."""

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._work: dict[str, _KeyedWork] = {}
        self._committed: dict[str, KeyedResponse] = {}

    async def run(
        self,
        key: str,
        request: Message,
        work: Callable[[], Awaitable[T]],
        *,
        field: str = FIELD,
        scope: str = "",
        cancel_abandoned: bool = False,
    ) -> T:
        """The response of ``work``, or the response to an equal request with this key.

        Without a key the work is simply done.  Work with a key runs to its end even if its callers leave,
        because they may ask again; with ``cancel_abandoned`` it is cancelled then, unless it has committed
        its response. Work that failed or was cancelled is done anew for its key.  Keys of different scopes
        are independent. Raises InvalidRequest for a key that is too long, Conflict for a key of another
        request.
        """
        if not key:
            return await work()
        if len(key) > MAX_KEY_LENGTH:
            raise InvalidRequest(f"a key has at most {MAX_KEY_LENGTH} characters", field=field)
        digest = request_digest(request)
        key = f"{scope}\0{key}" if scope else key
        if key in self._work:
            keyed = self._work[key]
            if keyed.request_digest != digest:
                raise Conflict("the key belongs to another request", field=field)
        else:
            keyed = self._work[key] = _KeyedWork(digest, asyncio.ensure_future(work()))
            keyed.response.add_done_callback(lambda _: self._finished(key, keyed))
        keyed.num_callers += 1
        try:
            response: T = await asyncio.shield(keyed.response)
        finally:
            keyed.num_callers -= 1
            is_abandoned = not keyed.num_callers and not keyed.response.done()
            if is_abandoned and cancel_abandoned and key not in self._committed:
                keyed.response.cancel()
                del self._work[key]  # the next caller begins anew
        return response

    def entries(self) -> list[KeyedResponse]:
        """The responses, the oldest first, and those that are committed."""
        finished = [
            KeyedResponse(key, work.request_digest, work.response.result())
            for key, work in self._work.items()
            if work.response.done() and not work.response.cancelled() and work.response.exception() is None
        ]
        return finished + [r for r in self._committed.values() if r not in finished]

    def commit(self, key: str, response: Message) -> None:
        """Note the response that running work will return: it has changed something already.

        Does nothing for a key that is empty.
        """
        if key:
            self._committed[key] = KeyedResponse(key, self._work[key].request_digest, response)

    def __contains__(self, key: str) -> bool:
        return key in self._work

    def insert(self, response: KeyedResponse) -> None:
        """Add a response that another process gave."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(response.message)
        self._work[response.key] = _KeyedWork(response.request_digest, future)

    def _finished(self, key: str, keyed: _KeyedWork) -> None:
        if self._work.get(key) is not keyed:
            return  # it was cancelled
        task = keyed.response
        self._committed.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            del self._work[key]
        else:
            # Only the response is kept: a task would keep the context of its call.
            keyed.response = task.get_loop().create_future()
            keyed.response.set_result(task.result())
        finished = [k for k, work in self._work.items() if work.response.done()]
        for k in finished[: max(0, len(self._work) - self._max_keys)]:
            del self._work[k]


def request_digest(request: Message) -> bytes:
    """A digest of a request's type and content."""
    content = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + content).digest()
