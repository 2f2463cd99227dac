"""The commands of a live stream: prompts, concepts, points, and their removals."""

import time
from collections.abc import Callable

from gateway.frames.frame_ring import FrameRing
from gateway.live.inbox import (
    Command,
    ConceptCommand,
    ConceptRemovalCommand,
    PointsCommand,
    PointsRemovalCommand,
    PromptCommand,
    RemovalCommand,
)
from gateway.live.live_points import LivePoints, PointsMessage, PointsResponse
from gateway.sessions.prompting import add_concept, add_prompt
from gateway.sessions.session import GatewaySession
from gateway.streams.frame_stream import StreamContext
from maskmesh import wire
from maskmesh.errors import MaskmeshError
from maskmesh.internal.v1 import tracker_pb2
from maskmesh.masks import MaskOptions
from maskmesh.v1 import segmentation_pb2

_Response = segmentation_pb2.SegmentStreamResponse

# The messages of the stream, and the fields of unary requests that have other names in them.
_MESSAGES = {
    PromptCommand: "prompt",
    RemovalCommand: "removal",
    ConceptCommand: "concept",
    ConceptRemovalCommand: "concept_removal",
    PointsCommand: "points",
    PointsRemovalCommand: "points_removal",
}
_RENAMED = {"idempotency_key": "request_id", "frame_index": "sequence"}


class LiveCommands:
    """Carries out the commands of one stream on its session."""

    def __init__(
        self,
        session: GatewaySession,
        ring: FrameRing,
        context: StreamContext,
        points: LivePoints,
        options: MaskOptions,
        answer: Callable[[str, _Response | MaskmeshError], None],
    ) -> None:
        """``answer`` sends the response to the command with a request id, or rejects it."""
        self._session = session
        self._ring = ring
        self._context = context
        self._points = points
        self._answer = answer
        self._mask_options = wire.mask_options_to_proto(options)

    async def carry_out(self, command: Command) -> None:
        """Carry out a command and answer it; those for points are answered later, by themselves.

        Raises MaskmeshError with the field's path in the stream's message.
        """
        try:
            match command:
                case PromptCommand(message, sequence):
                    response = await self._prompt(message, sequence)
                case RemovalCommand(message):
                    response = await self._remove(message)
                case ConceptCommand(message, sequence):
                    response = await self._add_concept(message, sequence)
                case ConceptRemovalCommand(message):
                    response = await self._remove_concept(message)
                case PointsCommand(message, sequence):
                    await self._points.carry_out(message, self._ring.index_of(sequence), self._answer_points)
                    return
                case PointsRemovalCommand(message):
                    await self._points.carry_out(message, 0, self._answer_points)
                    return
        except MaskmeshError as error:
            _rename_field(error, _MESSAGES[type(command)])
            raise
        self._answer(command.message.request_id, response)

    def _answer_points(self, command: PointsMessage, outcome: PointsResponse | MaskmeshError) -> None:
        is_removal = isinstance(command, segmentation_pb2.StreamPointsRemoval)
        if isinstance(outcome, MaskmeshError):
            _rename_field(outcome, "points_removal" if is_removal else "points")
            self._answer(command.request_id, outcome)
        elif isinstance(outcome, segmentation_pb2.StreamPointsAdded):
            self._answer(command.request_id, _Response(points_added=outcome))
        else:
            self._answer(command.request_id, _Response(points_removed=outcome))

    async def _prompt(self, message: segmentation_pb2.StreamPrompt, sequence: int) -> _Response:
        request = segmentation_pb2.AddPromptRequest(
            session_id=self._session.session_id,
            frame_index=self._ring.index_of(sequence),
            obj_id=message.obj_id,
            prompt=message.prompt,
            clear_previous=message.clear_previous,
            mask_options=self._mask_options,
            idempotency_key=message.request_id,
        )
        context = self._context
        response = await add_prompt(
            context.encoders, context.router, self._session, request, None, start_ns=time.time_ns()
        )
        prompted = segmentation_pb2.StreamPrompted(
            request_id=message.request_id, frame=response.frame, revision=response.revision
        )
        return _Response(prompted=prompted)

    async def _remove(self, message: segmentation_pb2.StreamRemoval) -> _Response:
        request = tracker_pb2.RemoveObjectRequest(
            session_id=self._session.session_id, obj_id=message.obj_id, idempotency_key=message.request_id
        )
        response = await self._context.router.call(self._session, "RemoveObject", request)
        removed = segmentation_pb2.StreamRemoved(
            request_id=message.request_id, obj_ids=response.obj_ids, revision=response.revision
        )
        return _Response(removed=removed)

    async def _add_concept(self, message: segmentation_pb2.StreamConcept, sequence: int | None) -> _Response:
        index = None if sequence is None else self._ring.index_of(sequence)
        request = segmentation_pb2.AddConceptRequest(
            session_id=self._session.session_id,
            concept_id=message.concept_id,
            concept=message.concept,
            frame_index=index,
            options=message.options,
            mask_options=self._mask_options,
            idempotency_key=message.request_id,
        )
        context = self._context
        response = await add_concept(
            context.encoders, context.router, self._session, request, None, start_ns=time.time_ns()
        )
        added = segmentation_pb2.StreamConceptAdded(
            request_id=message.request_id,
            frame=response.frame if response.HasField("frame") else None,
            revision=response.revision,
        )
        return _Response(concept_added=added)

    async def _remove_concept(self, message: segmentation_pb2.StreamConceptRemoval) -> _Response:
        request = tracker_pb2.RemoveConceptRequest(
            session_id=self._session.session_id,
            concept_id=message.concept_id,
            keep_objects=message.keep_objects,
            idempotency_key=message.request_id,
        )
        response = await self._context.router.call(self._session, "RemoveConcept", request)
        removed = segmentation_pb2.StreamConceptRemoved(
            request_id=message.request_id,
            concept_ids=response.concept_ids,
            obj_ids=response.obj_ids,
            revision=response.revision,
        )
        return _Response(concept_removed=removed)


def _rename_field(error: MaskmeshError, message: str) -> None:
    """Change an error's field from its path in a unary request to its path in a message of the stream."""
    name = error.metadata.get("field")
    if name is not None and not name.startswith(f"{message}.seq"):
        error.metadata["field"] = f"{message}.{_RENAMED.get(name, name)}"
