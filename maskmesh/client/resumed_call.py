"""Calls whose responses have resume tokens; when the connection breaks, another call continues them."""

import time
from collections.abc import AsyncGenerator
from typing import Any

from maskmesh.aio import RetryWindow
from maskmesh.client.connection import GatewayConnection
from maskmesh.errors import Unavailable
from maskmesh.rpc.status import translate_rpc_errors

# How long a broken call is continued, and the pause before each attempt.
RESUME_SECONDS = 60.0
RESUME_PAUSE_SECONDS = 0.2

# What a token has, so that a request with one must not have it.
_IN_TOKEN = ("start_frame_index", "max_frames")


async def resumed_responses(
    connection: GatewayConnection, method: str, request: Any, timeout: float | None
) -> AsyncGenerator[Any, None]:
    """The responses in order.  ``request`` is changed to that of the remaining ones.

    Raises the errors of the method, Unavailable if no gateway can be reached for a minute.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    window = RetryWindow(RESUME_SECONDS, first_pause=RESUME_PAUSE_SECONDS)
    while True:
        remaining = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        call = connection.stream_responses(method, request, remaining)
        try:
            with translate_rpc_errors():
                async for response in call:
                    request.resume_token = response.resume_token
                    for name in _IN_TOKEN:
                        if name in request.DESCRIPTOR.fields_by_name:
                            request.ClearField(name)
                    yield response
                    window.reset()
            return
        except Unavailable as error:
            if not request.resume_token:
                raise
            await window.wait(error)
        finally:
            call.cancel()
