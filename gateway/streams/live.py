"""A live stream: frames, prompts and removals come as they like, masks go back in order."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import TypeAlias

from opentelemetry.trace import SpanContext

from gateway.backends.embeddings import encode_frame, frame_ref, key_of
from gateway.backends.encoders import Encoded, Encoders, EncodeOptions
from gateway.backends.pins import Pins
from gateway.backends.track_call import Result, TrackCall
from gateway.backends.tracker_backend import at_epoch
from gateway.frames.frame_ring import FrameRing
from gateway.prompting import Prompter
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from gateway.streams.frame_stream import FrameStream
from gateway.streams.frame_trace import FrameTrace
from gateway.streams.inbox import MAX_WAITING, Arrived, Command, Inbox, Prompted
from maskmesh import wire
from maskmesh.errors import InternalError, InvalidRequest, MaskmeshError, SessionNotFound, Unavailable
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.telemetry import add_seconds
from maskmesh.types import EmbeddingRef, Image
from maskmesh.v1 import error_reason_pb2, segmentation_pb2

# Answers that the client has not taken yet; beyond, nothing more is read.
MAX_UNTAKEN = 64

# All streams of a live session are one propagation: frames have their numbers from the first to the last.
PROPAGATION_ID = "live"

# A frame, and the work that ends in its embedding.
_Encoding: TypeAlias = tuple[int, "asyncio.Task[Encoded]"]

_Response = segmentation_pb2.SegmentStreamResponse


class LiveStream(FrameStream["_Response | Result"]):
    """One call of SegmentStream.

    A frame that arrives waits for one of ``window`` places; with ``skips`` a newer one takes its turn, else
    nothing is read while it waits.  From there on everything keeps the order in which it was sent: frames
    are encoded at once and sent to the tracker one after the other, commands are carried out between them.
    """

    def __init__(
        self,
        session: GatewaySession,
        encoder: Encoders,
        router: SessionRouter,
        *,
        options: MaskOptions,
        skips: bool,
        window: int,
        max_pixels: int,
        encode_options: EncodeOptions,
        links: list[SpanContext],
    ) -> None:
        call = TrackCall(
            router, session, timeout=None, encode=self._encode_again, propagation_id=PROPAGATION_ID
        )
        super().__init__(session, call, Pins(encoder, session))
        assert isinstance(session.frames, FrameRing)
        self._ring: FrameRing = session.frames
        self._encoder = encoder
        self._router = router
        self._prompter = Prompter(encoder, router)
        self._options = options
        self._encode_options = encode_options
        self._links = links
        self._id = uuid.uuid4().hex[:16]
        self._slots = asyncio.Semaphore(window)
        self._inbox = Inbox(self._ring, skips=skips, max_pixels=max_pixels, reject=self._reject)
        self._ordered: asyncio.Queue[_Encoding | Command | None] = asyncio.Queue(MAX_WAITING)
        self._sequences: dict[int, int] = {}  # of frames under way
        self._outstanding = 0
        self._is_all_sent = False
        self._taken = asyncio.Event()

    async def run(
        self,
        requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest],
        started: segmentation_pb2.StreamStarted,
        resumes: ResumePoint | None,
        next_sequence: int,
    ) -> AsyncIterator[_Response]:
        """Answer the messages that follow the configuration; ``started`` is the answer to that.

        ``next_sequence`` is the first frame that a client which resumes has.
        """
        after_another = self._session.had_stream
        async with self._session.streaming(self, takes_over=resumes is not None):
            try:
                if resumes is not None:
                    self._ring.go_on_at(resumes.next_frame_index, next_sequence)
                self._inbox.begin()
                with self.explained():
                    first = self._ring.num_frames if resumes is None else resumes.next_frame_index
                    await self._call.open(
                        self._options, after_another=after_another, resumes=range(first) or None
                    )
                started.next_sequence = self._ring.next_sequence
                started.resume_token = str(ResumePoint(self._session.session_id, first, 0))
                yield _Response(started=started)
                for work in (self._read(requests), self._accept(first), self._send(), self._receive()):
                    self._spawn(work)
                while (answer := await self._outgoing.get()) is not None:
                    self._taken.set()
                    if isinstance(answer, BaseException):
                        raise answer
                    if isinstance(answer, Result):
                        yield self._open(answer)
                        self._delivered(answer)
                    else:
                        yield answer
            finally:
                await self._end()

    @property
    def is_finished(self) -> bool:
        """Whether the client said that nothing follows; else the stream broke, or another took its place."""
        return self._inbox.is_finished and self.interruption is None

    # What comes in.

    async def _read(self, requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest]) -> None:
        await self._inbox.fill(self._paced(requests))

    async def _paced(
        self, requests: AsyncIterator[segmentation_pb2.SegmentStreamRequest]
    ) -> AsyncIterator[segmentation_pb2.SegmentStreamRequest]:
        """Read no further while the client does not take what it is answered."""
        async for request in requests:
            while self._outgoing.qsize() > MAX_UNTAKEN:
                self._taken.clear()
                await self._taken.wait()
            yield request

    async def _accept(self, first_index: int) -> None:
        """Let frames into the window as there is room, and commands as they come.

        First come those again that were let in before the stream broke, from ``first_index`` on.
        """
        await self._repeat(first_index)
        while (item := await self._inbox.next(self._slots)) is not None:
            if isinstance(item, Arrived):
                await self._session.caller.keep_pace()
                self._begin(item)
            else:
                await self._ordered.put(item)
        await self._ordered.put(None)

    def _begin(self, arrived: Arrived) -> None:
        """Give a frame its index and begin to encode it."""
        index = self._ring.append(arrived.image, arrived.sequence)
        trace = self._trace(index, arrived.awaited_ns)
        trace.waited(arrived.awaited_ns, arrived.arrived_ns, "client")
        trace.waited(arrived.arrived_ns, time.time_ns(), "window")
        self._enqueue(index, trace.task(self._encode(index, arrived.image)))

    async def _repeat(self, first_index: int) -> None:
        """Frames that were let in before the stream broke, and whose results were not received."""
        self._ring.skipped += self._ring.lost_from(first_index)
        for index in self._ring.kept_from(first_index):
            await self._slots.acquire()
            trace = self._trace(index, time.time_ns())
            self._enqueue(index, trace.task(frame_ref(self._session, self._encoder, index, self._encode_options)))

    def _enqueue(self, index: int, task: "asyncio.Task[Encoded]") -> None:
        self._sequences[index] = self._ring.sequence(index)
        self._tasks.add(task)
        self._ordered.put_nowait((index, task))

    async def _encode(self, index: int, image: Image) -> Encoded:
        key = await key_of(image)
        return await encode_frame(self._session, self._encoder, index, image, key, self._encode_options)

    def _trace(self, index: int, start_ns: int) -> FrameTrace:
        trace = FrameTrace(
            index,
            session_id=self._session.session_id,
            propagation_id=self._id,
            links=self._links,
            start_ns=start_ns,
        )
        self._traces[index] = trace
        return trace

    async def _send(self) -> None:
        """Frames to the tracker, and commands between them."""
        while (item := await self._ordered.get()) is not None:
            if isinstance(item, Command):
                await self._carry_out(item)
                continue
            index, task = item
            try:
                encoded = await task
            except InvalidRequest as error:
                self._left_out(index, error)
                continue
            finally:
                self._tasks.discard(task)
            trace = self._traces[index]
            trace.stage_seconds = add_seconds(encoded.stage_seconds)
            self._outstanding += 1
            await self._call.send(index, encoded.ref, trace.sent_to_tracker(encoded.ready_ns))
        self._is_all_sent = True
        await self._finish_call()

    async def _finish_call(self) -> None:
        """Nothing follows, and nothing is missing: until then the tracker may ask for embeddings."""
        if self._is_all_sent and not self._outstanding:
            await self._call.finish()

    async def _carry_out(self, command: Command) -> None:
        said = command.prompt if isinstance(command, Prompted) else command.removal
        try:
            if isinstance(command, Prompted):
                answer = await self._prompt(command.prompt, command.sequence)
            else:
                answer = await self._remove(command.removal)
        except (SessionNotFound, Unavailable, InternalError):
            raise
        except MaskmeshError as error:
            _rename_field(error, isinstance(command, Prompted))
            self._reject(error, request_id=said.request_id)
        else:
            self._outgoing.put_nowait(answer)

    async def _prompt(self, said: segmentation_pb2.StreamPrompt, sequence: int) -> _Response:
        message = segmentation_pb2.AddPromptRequest(
            session_id=self._session.session_id,
            frame_index=self._ring.index_of(sequence),
            obj_id=said.obj_id,
            prompt=said.prompt,
            clear_previous=said.clear_previous,
            mask_options=wire.mask_options_to_proto(self._options),
            idempotency_key=said.request_id,
        )
        found = await self._prompter.prompt(self._session, message, None)
        prompted = segmentation_pb2.StreamPrompted(
            request_id=said.request_id, frame=found.frame, revision=found.revision
        )
        return _Response(prompted=prompted)

    async def _remove(self, removal: segmentation_pb2.StreamRemoval) -> _Response:
        message = tracker_pb2.RemoveObjectRequest(
            session_id=self._session.session_id,
            obj_id=removal.obj_id,
            idempotency_key=removal.request_id,
        )
        left = await self._router.call(
            self._session, lambda tracker, epoch: tracker.remove_object(at_epoch(message, epoch), None)
        )
        removed = segmentation_pb2.StreamRemoved(
            request_id=removal.request_id, obj_ids=left.obj_ids, revision=left.revision
        )
        return _Response(removed=removed)

    async def _receive(self) -> None:
        """Take results as they come."""
        async for result in self._call.results():
            self._outgoing.put_nowait(result)
            self._outstanding -= 1
            await self._finish_call()
        self._outgoing.put_nowait(None)

    async def _encode_again(self, frame_index: int, is_gone: bool) -> EmbeddingRef:
        """Where the embedding of a frame is that was encoded before; encoded again where it is gone."""
        if is_gone:
            self._session.forget_ref(frame_index)
        return (await frame_ref(self._session, self._encoder, frame_index, self._encode_options)).ref

    # What goes out.

    def _open(self, result: Result) -> _Response:
        index = result.frame.frame_index
        trace = self._traces[index]
        trace.received(result.handling, result.received_ns)
        sequence = self._sequences.pop(index)
        answer = segmentation_pb2.StreamResult(
            frame=trace.signed(result.frame),
            sequence=sequence,
            skipped=[s for s in self._ring.skipped if s < sequence],
            resume_token=str(ResumePoint(self._session.session_id, index + 1, 0)),
        )
        self._ring.skipped = [s for s in self._ring.skipped if s > sequence]
        return _Response(result=answer)

    def _delivered(self, result: Result) -> None:
        """The client has taken the frame: its place in the window is free."""
        index = result.frame.frame_index
        self._session.last_frame_index = index
        self._session.renew()
        self._traces.pop(index).delivered(
            conditioning=result.frame.conditioning, objects=len(result.frame.objects)
        )
        self._slots.release()
        if (ref := self._session.refs.get(index)) is not None:
            self._pins.release(ref)

    def _left_out(self, index: int, error: InvalidRequest) -> None:
        """A frame turned out to be broken: the others go on."""
        self._traces.pop(index).abandoned()
        self._slots.release()
        error.metadata["field"] = "frame.image"
        self._reject(error, sequence=self._sequences.pop(index))

    def _reject(self, error: MaskmeshError, *, request_id: str = "", sequence: int | None = None) -> None:
        rejected = segmentation_pb2.StreamRejected(
            request_id=request_id,
            sequence=sequence,
            reason=error_reason_pb2.ErrorReason.Name(error.reason),
            message=error.message,
            metadata=error.metadata,
        )
        self._outgoing.put_nowait(_Response(rejected=rejected))


def _rename_field(error: MaskmeshError, is_prompt: bool) -> None:
    """From where something stands in a unary request to where it stands in a message of the stream."""
    name = error.metadata.get("field")
    if name is None:
        return
    message = "prompt" if is_prompt else "removal"
    renamed = {"idempotency_key": "request_id", "frame_index": "sequence"}
    error.metadata["field"] = (
        name if name.startswith("prompt.seq") else f"{message}.{renamed.get(name, name)}"
    )
