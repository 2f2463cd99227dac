"""A SegmentStream call that continues with another call when its connection breaks."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import grpc

from maskmesh import wire
from maskmesh.aio import RetryWindow
from maskmesh.client.live.resend_buffer import ResendBuffer
from maskmesh.client.session import RESUME_PAUSE_SECONDS, RESUME_SECONDS
from maskmesh.errors import Unavailable
from maskmesh.rpc.status import from_rpc_error, translate_rpc_errors
from maskmesh.rpc.stream_call import StreamCall
from maskmesh.types import ModelInfo
from maskmesh.v1 import segmentation_pb2

logger = logging.getLogger(__name__)

LEFT_MESSAGE = "the stream was left"


class ResumableStream(ABC):
    """Sends requests and receives responses; requests that were not acknowledged are sent again after a
    break.
    """

    def __init__(self, connect: Callable[[], StreamCall], *, max_unacknowledged: int) -> None:
        """``connect`` begins a call of SegmentStream; of unacknowledged frames the newest ones are kept."""
        self._connect = connect
        self._call = connect()
        self._config = segmentation_pb2.StreamConfig()
        self._unacknowledged = ResendBuffer(max_unacknowledged)
        self._changed = asyncio.Event()
        self._has_ended = False
        self._ending: Exception | None = None
        self._is_new = True  # no response was received
        self._writing = asyncio.Lock()
        self._ready = asyncio.Event()
        self._receiver: asyncio.Task[None] | None = None
        self._next_sequence = 0
        self._is_finished = False
        self.was_left = False
        """Whether :meth:`leave` was called."""
        self.session_id = ""
        self.ttl = timedelta()
        """How long the session stays after the stream broke."""
        self.model: ModelInfo | None = None
        self.window = 0
        """The largest number of frames in progress at once."""

    @abstractmethod
    async def _process(self, response: segmentation_pb2.SegmentStreamResponse) -> None:
        """Process a response; no further one is read before this returns."""

    @abstractmethod
    def _restored(self) -> Sequence[segmentation_pb2.SegmentStreamRequest]:
        """The messages that restore what a broken call had and the session does not keep."""

    @abstractmethod
    def _on_end(self) -> None:
        """The stream has ended; ``_ending`` is its error, None if it has finished."""

    async def open(self, config: segmentation_pb2.StreamConfig) -> None:
        """Open the stream.  Raises InvalidRequest, SessionNotFound, ResourceExhausted, Unavailable."""
        with translate_rpc_errors():
            started = await _start(self._call, config)
        # The configuration of the call that continues this one if it breaks.
        self._config.CopyFrom(config)
        self._config.resume_token = started.resume_token or config.resume_token
        self.session_id, self.ttl = started.session_id, started.ttl.ToTimedelta()
        self.model, self.window = wire.model_info_from_proto(started.model), started.window
        self._next_sequence = started.next_sequence
        self._ready.set()
        self._receiver = asyncio.ensure_future(self._receive())

    async def leave(self) -> None:
        """Cancel the stream, unless it has ended; its session stays for its ``ttl``."""
        self.was_left = True
        self._call.cancel()
        if self._receiver is not None:
            self._receiver.cancel()
            await asyncio.gather(self._receiver, return_exceptions=True)

    async def _write(self, request: segmentation_pb2.SegmentStreamRequest) -> None:
        async with self._writing:
            await self._ready.wait()
            if self._is_finished:
                raise ValueError("nothing can be sent after finish()")
            if self._has_ended:
                raise self._ending or Unavailable("the stream has ended")
            call = self._call
            self._is_finished = request.WhichOneof("content") == "finish"
            self._unacknowledged.add(request)
            try:
                await _send(call, request)
            except grpc.RpcError as error:
                # The receiver resumes the stream, which sends the request again.
                await self._wait_resumed(call)
                if self._call is call:
                    self._unacknowledged.remove(request)
                    raise self._ending or _error_of(call, error) from error
            except BaseException:
                self._unacknowledged.remove(request)
                raise

    async def _wait_resumed(self, call: StreamCall) -> None:
        """Wait until another call than ``call`` continues the stream, or the stream has ended."""
        while self._call is call and not self._has_ended:
            self._changed.clear()
            await self._changed.wait()

    async def _receive(self) -> None:
        self._ending = Unavailable(LEFT_MESSAGE)
        window = RetryWindow(RESUME_SECONDS, first_pause=RESUME_PAUSE_SECONDS)
        resending: asyncio.Task[None] | None = None
        try:
            while True:
                call, token = self._call, self._config.resume_token
                try:
                    await self._read_responses(call)
                    self._ending = None
                    return
                except grpc.RpcError as error:
                    self._ending = _error_of(call, error)
                if self._config.resume_token != token:
                    window.reset()
                if resending is not None:
                    resending.cancel()
                started = None
                while started is None:
                    # A gateway of the previous version sends its first token with the first result.
                    has_token = bool(self._config.resume_token) or self._is_new
                    is_left = self.was_left or call.was_cancelled
                    if is_left or not has_token or not isinstance(self._ending, Unavailable):
                        return
                    self._ready.clear()
                    await window.wait(self._ending)
                    started = await self._resume()
                resending = asyncio.ensure_future(self._resend(started.next_sequence))
        except Exception as error:  # the window has closed, or the application's callback has failed
            self._ending = error
        finally:
            if resending is not None:
                resending.cancel()
            self._has_ended = True
            self._ready.set()
            self._changed.set()
            self._on_end()

    async def _read_responses(self, call: StreamCall) -> None:
        """Process responses until the stream finishes.  Raises grpc.RpcError if the call fails."""
        while (response := await call.read()) is not grpc.aio.EOF:
            self._is_new = False
            await self._process(response)

    async def _resume(self) -> segmentation_pb2.StreamStarted | None:
        """Continue with another call; returns None, with the error in ``_ending``, if that fails now."""
        call = self._connect()
        first = self._unacknowledged.first_frame
        self._config.next_sequence = self._next_sequence if first is None else first
        try:
            started = await _start(call, self._config)
        except grpc.RpcError as error:
            self._ending = _error_of(call, error)
            return None
        except BaseException:
            call.cancel()
            raise
        self._ending = Unavailable(LEFT_MESSAGE)
        self._call = call
        self.session_id = started.session_id
        logger.info("the stream of session %s continues", self.session_id)
        return started

    async def _resend(self, next_sequence: int) -> None:
        """Send the unacknowledged requests again in their order, while responses are received."""
        call = self._call
        try:
            for request in (*self._restored(), *self._unacknowledged.since(next_sequence)):
                await _send(call, request)
        except grpc.RpcError:
            return  # the receiver resumes the stream again
        self._ready.set()
        self._changed.set()


async def _start(call: StreamCall, config: segmentation_pb2.StreamConfig) -> segmentation_pb2.StreamStarted:
    """Send the configuration and read the first response.  Raises grpc.RpcError."""
    await call.write(segmentation_pb2.SegmentStreamRequest(config=config))
    first: Any = await call.read()
    if first is grpc.aio.EOF:
        raise await call.ending()
    started: segmentation_pb2.StreamStarted = first.started
    return started


async def _send(call: StreamCall, request: segmentation_pb2.SegmentStreamRequest) -> None:
    await call.write(request)
    if request.WhichOneof("content") == "finish":
        await call.done_writing()


def _error_of(call: StreamCall, error: grpc.RpcError) -> Exception:
    """The error to raise for gRPC's ``error``."""
    return Unavailable(LEFT_MESSAGE) if call.was_cancelled else from_rpc_error(error)
