"""SegmentStream, and its two halves for clients that cannot stream requests."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, nullcontext, suppress
from dataclasses import replace

from gateway.config import GatewaySettings
from gateway.erase.erase_view import Erasers
from gateway.erase.options import EraseOptions, erase_options
from gateway.live.live_stream import LiveStream
from gateway.live.motion_gate import DEFAULT_THRESHOLD
from gateway.live.pushed_requests import PushedRequests
from gateway.live.responses import LiveOptions
from gateway.points.motion import motion_settings
from gateway.points.point_tracking import PointCalls
from gateway.sessions.lifecycle import Lifecycle
from gateway.sessions.resume_point import ResumePoint
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import StreamContexts
from maskmesh import wire
from maskmesh.errors import InvalidRequest, SessionNotFound, Unavailable
from maskmesh.masks import MaskFormat, MaskOptions, MaskSpace
from maskmesh.types import ModelInfo
from maskmesh.v1 import segmentation_pb2

Requests = AsyncIterator[segmentation_pb2.SegmentStreamRequest]
Responses = AsyncGenerator[segmentation_pb2.SegmentStreamResponse, None]


# Frames that the policies queue; those that are not listed skip none.
_QUEUED_FRAMES = {
    segmentation_pb2.OVERLOAD_POLICY_SKIP: 1,
    segmentation_pb2.OVERLOAD_POLICY_DROP_OLDEST: 8,
}

# Frames in progress where results must be as new as possible: one is encoded while another is tracked.
NEWEST_WINDOW = 2


class LiveCalls:
    """The calls that segment live streams."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        contexts: StreamContexts,
        erasers: Erasers,
        points: PointCalls,
        model: ModelInfo,
        settings: GatewaySettings,
    ) -> None:
        self._lifecycle = lifecycle
        self._contexts = contexts
        self._erasers = erasers
        self._points = points
        self._model = model
        self._settings = settings
        self._pushed: dict[str, PushedRequests] = {}  # by session id

    async def segment(self, requests: Requests) -> Responses:
        """The responses to a request stream; the proto describes them."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the first message must be the configuration", field="config")
        async with aclosing(self._run(first.config, requests)) as responses:
            async for response in responses:
                yield response

    async def receive(self, config: segmentation_pb2.StreamConfig) -> Responses:
        """The responses of a stream whose messages come by :meth:`send`."""
        pushed = PushedRequests()
        session_id = ""
        try:
            async with aclosing(self._run(config, aiter(pushed))) as responses:
                async for response in responses:
                    if response.WhichOneof("content") == "started":
                        session_id = response.started.session_id
                        self._pushed[session_id] = pushed
                    yield response
        finally:
            pushed.end()
            if self._pushed.get(session_id) is pushed:
                del self._pushed[session_id]

    async def send(self, request: segmentation_pb2.SendStreamRequest) -> None:
        """Pass messages to a stream of :meth:`receive`.  Raises InvalidRequest, Unavailable."""
        if not request.messages:
            raise InvalidRequest("at least one message is needed", field="messages")
        for index, message in enumerate(request.messages):
            if message.WhichOneof("content") in (None, "config"):
                raise InvalidRequest(
                    "only frames, commands and finish may follow the configuration",
                    field=f"messages[{index}].content",
                )
        session = await self._lifecycle.find(request.session_id)
        if not session.is_live:
            raise InvalidRequest("the session is not live", field="session_id")
        pushed = self._pushed.get(session.session_id)
        if pushed is None:
            raise Unavailable("this gateway has no open ReceiveStream of the session", service="gateway")
        await pushed.push(request.messages)

    async def _run(self, config: segmentation_pb2.StreamConfig, requests: Requests) -> Responses:
        options = _live_options(config)
        erase = _erase_options(config, options.masks)
        session, resume_point = await self._session(config)
        is_started = resume_point is not None
        view = self._erasers.view(erase, session.session_id, field="config.erase") if erase else nullcontext()
        try:
            with view as erase_view:
                window = self._settings.live_window
                if config.overload == segmentation_pb2.OVERLOAD_POLICY_SKIP:
                    window = min(window, NEWEST_WINDOW)
                stream = LiveStream(
                    session,
                    self._contexts.make(session, window, None),
                    self._points,
                    options=replace(options, erase=erase_view),
                    limit=self._settings.pixel_limit,
                )
                started = segmentation_pb2.StreamStarted(
                    session_id=session.session_id, model=wire.model_info_to_proto(self._model), window=window
                )
                started.ttl.FromNanoseconds(int(session.ttl_seconds * 1e9))
                responses = stream.run(requests, started, resume_point, config.next_sequence)
                async with self._lifecycle.keeping_alive(session), aclosing(responses):
                    async for response in responses:
                        is_started = True
                        yield response
                if stream.is_finished:
                    await self._delete(session)
        finally:
            if not is_started:
                await self._delete(session)  # the client does not know its id

    async def _delete(self, session: GatewaySession) -> None:
        with suppress(SessionNotFound):
            await self._lifecycle.delete(session.session_id)

    async def _session(
        self, config: segmentation_pb2.StreamConfig
    ) -> tuple[GatewaySession, ResumePoint | None]:
        """The session of a live stream: a new session, or the session of the resume token."""
        if not config.resume_token:
            seconds = config.ttl.ToNanoseconds() / 1e9
            return await self._lifecycle.create(seconds, live=True, field="config.ttl"), None
        resume_point = ResumePoint.parse(config.resume_token, field="config.resume_token")
        session = await self._lifecycle.find(resume_point.session_id)
        if not session.is_live:
            raise InvalidRequest("the session is not live", field="config.resume_token")
        return session, resume_point


def _erase_options(config: segmentation_pb2.StreamConfig, masks: MaskOptions) -> EraseOptions | None:
    """How a stream erases objects, None if it does not.  Raises InvalidRequest."""
    if not config.HasField("erase"):
        return None
    if masks.format is MaskFormat.LOW_RES_LOGITS or masks.space is MaskSpace.MODEL:
        raise InvalidRequest(
            "to erase objects, masks must be binary and in the size of the frame",
            field="config.mask_options",
        )
    return erase_options(config.erase, field="config.erase", live=True)


def _live_options(config: segmentation_pb2.StreamConfig) -> LiveOptions:
    """The options of a stream, without its eraser.  Raises InvalidRequest."""
    if config.overload not in segmentation_pb2.OverloadPolicy.values():
        raise InvalidRequest(f"unknown policy {config.overload}", field="config.overload")
    threshold = None
    if config.HasField("motion_gate"):
        threshold = wire.threshold_from_proto(
            config.motion_gate, DEFAULT_THRESHOLD, field="config.motion_gate"
        )
    return LiveOptions(
        masks=wire.mask_options_from_proto(config.mask_options, field="config.mask_options"),
        erase=None,
        max_queued_frames=_QUEUED_FRAMES.get(config.overload, 0),
        budget=wire.budget_from_proto(config.budget, field="config.budget"),
        motion=motion_settings(config.motion, field="config.motion") if config.HasField("motion") else None,
        gate_threshold=threshold,
    )
