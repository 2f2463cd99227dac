"""The asynchronous client: sessions, images and live streams, in plain values.

    async with AsyncClient("localhost:50050") as client, client.session() as session:
        await session.append_video("clip.mp4")
        await session.add_prompt(0, 1, points=[(480, 270)])
        async for frame in session.propagate():
            print(frame.frame_index, frame.objects[1].mask.decode().sum())

Errors of the gateway are raised as the classes of :mod:`maskmesh.errors`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self

from maskmesh import wire
from maskmesh.client.connection import GatewayConnection
from maskmesh.client.live.live_stream import LiveStream, OnRejected
from maskmesh.client.live.overload import OVERLOAD_POLICIES, Overload
from maskmesh.client.prompts import checked_message
from maskmesh.client.session import DEFAULT_MASKS, VideoSession, new_key
from maskmesh.concepts import Concept, ImageConcepts, as_concept
from maskmesh.erasing import EraseOptions
from maskmesh.errors import SessionNotFound
from maskmesh.image_objects import ImageObjects
from maskmesh.masks import MaskOptions
from maskmesh.media.pictures import ImageLike, as_image
from maskmesh.points import MotionOptions
from maskmesh.records.budget import NO_BUDGET, Budget
from maskmesh.status import MeshStatus
from maskmesh.types import ImageMasks, ObjectMask, Prompt, Tls
from maskmesh.v1 import budget_pb2, segmentation_pb2, types_pb2

# Results of a live stream that wait for the application; beyond, no more are received.
MAX_LIVE_RESULTS = 1  # where frames may be skipped: what is displayed must be new
MAX_RESULTS = 64


class AsyncClient:
    """A connection to a gateway.  Connects on the first call.

    ``timeout`` is the deadline in seconds of all calls but PropagateVideo, SegmentStream and
    AppendFrames, None for none.  Calls that find the gateway unreachable are retried for two seconds;
    calls that change something carry idempotency keys, so that a retry does not repeat the change.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        timeout: float | None = None,
        api_key: str = "",
        tls: Tls | None = None,
    ) -> None:
        """``endpoint`` is a gRPC target; several gateways are ``ipv4:host:port,host:port`` or a DNS name.

        ``api_key`` is for gateways that require one, ``tls`` for gateways with TLS.
        Raises OSError or ValueError for certificate files that cannot be used.
        """
        self._connection = GatewayConnection(endpoint, timeout=timeout, api_key=api_key, tls=tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def segment_image(
        self,
        image: ImageLike,
        prompts: Mapping[int, Prompt],
        *,
        multimask_output: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
    ) -> ImageMasks:
        """Segment objects on one image; ``prompts`` are by ``obj_id``.

        With ``multimask_output`` each object has three masks, the most confident first.
        Raises InvalidImage, ImageTooLarge, InvalidPrompt.
        """
        request = segmentation_pb2.SegmentImageRequest(
            image=wire.image_to_proto(as_image(image)),
            multimask_output=multimask_output,
            mask_options=wire.mask_options_to_proto(mask_options),
        )
        for obj_id, prompt in prompts.items():
            request.prompts.add(obj_id=obj_id, prompt=checked_message(prompt))
        response = await self._connection.call("SegmentImage", request)
        objects: dict[int, list[ObjectMask]] = {}
        for message in response.masks:
            objects.setdefault(message.obj_id, []).append(wire.object_mask_from_proto(message))
        return ImageMasks(objects, response.width, response.height, response.trace_id)

    async def segment_concepts(
        self,
        image: ImageLike,
        concepts: Concept | str | Sequence[Concept | str],
        *,
        score_threshold: float | None = None,
        max_instances: int = 0,
        omit_masks: bool = False,
        mask_options: MaskOptions = DEFAULT_MASKS,
    ) -> ImageConcepts:
        """Find all objects of one concept or several on an image; a concept is a phrase, boxes, or both.

        Instances with a score above ``score_threshold`` are returned, 0.5 by default, at most
        ``max_instances`` of each concept if it is not 0.  With ``omit_masks`` they have no masks, which saves
        time.  Raises InvalidImage, ImageTooLarge, InvalidPrompt, and InvalidRequest if the model is no SAM 3.
        """
        listed = [concepts] if isinstance(concepts, Concept | str) else concepts
        request = segmentation_pb2.SegmentConceptsRequest(
            image=wire.image_to_proto(as_image(image)),
            score_threshold=score_threshold,
            max_instances=max_instances,
            omit_masks=omit_masks,
            mask_options=wire.mask_options_to_proto(mask_options),
            concepts=[wire.concept_to_proto(as_concept(concept)) for concept in listed],
        )
        response = await self._connection.call("SegmentConcepts", request)
        found = [wire.concept_instances_from_proto(message) for message in response.concepts]
        return ImageConcepts(found, response.width, response.height, response.trace_id)

    async def segment_everything(
        self,
        image: ImageLike,
        *,
        points_per_side: int = 32,
        min_predicted_iou: float = 0.8,
        min_stability: float = 0.95,
        max_box_iou: float = 0.7,
        crop_layers: int = 0,
        min_area: int = 0,
        max_masks: int = 0,
        mask_options: MaskOptions = DEFAULT_MASKS,
    ) -> ImageObjects:
        """Find all objects of an image without prompts, the largest first.

        A grid of ``points_per_side`` squared points is tried; masks below ``min_predicted_iou`` or
        ``min_stability`` are left out, and those whose box overlaps a more confident one by more than
        ``max_box_iou``.  ``crop_layers`` also searches 4, 16 or 64 parts of the image for small objects.
        Raises InvalidImage, ImageTooLarge, InvalidRequest.
        """
        request = segmentation_pb2.SegmentEverythingRequest(
            image=wire.image_to_proto(as_image(image)),
            options=types_pb2.EverythingOptions(
                points_per_side=points_per_side,
                min_predicted_iou=min_predicted_iou,
                min_stability=min_stability,
                max_box_iou=max_box_iou,
                crop_layers=crop_layers,
                min_area=min_area,
                max_masks=max_masks,
            ),
            mask_options=wire.mask_options_to_proto(mask_options),
        )
        response = await self._connection.call("SegmentEverything", request)
        masks = [wire.found_mask_from_proto(message) for message in response.masks]
        return ImageObjects(masks, response.width, response.height, response.trace_id)

    async def mesh(self) -> MeshStatus:
        """The state of the gateway and of all encoders and trackers that it knows.

        A service that does not answer has an error in its status.
        """
        return wire.mesh_status_from_proto(
            await self._connection.call("GetMesh", segmentation_pb2.GetMeshRequest())
        )

    async def create_session(self, *, ttl: timedelta | None = None) -> VideoSession:
        """Create a session, which the caller deletes; :meth:`session` does both.

        ``ttl`` is how long the session may stay unused; the server may shorten it.
        Raises ResourceExhausted, Unavailable.
        """
        request = segmentation_pb2.CreateSessionRequest(idempotency_key=new_key())
        if ttl is not None:
            request.ttl.FromTimedelta(ttl)
        response = await self._connection.timed_call("CreateSession", request)
        return VideoSession(self._connection, response.message, response.trace_id)

    async def attach(self, session_id: str) -> VideoSession:
        """A session that another client or process created.  Raises SessionNotFound."""
        request = segmentation_pb2.GetSessionRequest(session_id=session_id)
        response = await self._connection.call("GetSession", request)
        return VideoSession(self._connection, response, "")

    @asynccontextmanager
    async def session(self, *, ttl: timedelta | None = None) -> AsyncIterator[VideoSession]:
        """A session that is deleted at the end; arguments and errors as for :meth:`create_session`."""
        session = await self.create_session(ttl=ttl)
        try:
            yield session
        finally:
            with contextlib.suppress(SessionNotFound):  # it expired, or was deleted already
                await session.delete()

    @asynccontextmanager
    async def stream(
        self,
        *,
        overload: Overload = "wait",
        budget: Budget = NO_BUDGET,
        motion_gate: float | None = None,
        erase: EraseOptions | None = None,
        motion: MotionOptions | None = None,
        mask_options: MaskOptions = DEFAULT_MASKS,
        ttl: timedelta | None = None,
        resume_token: str = "",
        on_rejected: OnRejected | None = None,
    ) -> AsyncIterator[LiveStream]:
        """A live stream, whose session is deleted at the end; frames in progress are dropped then.

        After an exception or :meth:`LiveStream.leave` the session stays for its ``ttl``.
        ``overload`` says what happens to frames that come faster than they are tracked: with "wait"
        :meth:`LiveStream.send` waits, as for a file; with "skip" only the newest frame counts, as for a
        camera; with "drop_oldest" bursts of up to 8 frames are kept.  Results tell whether their windows kept
        the ``budget``.  A ``motion_gate`` skips the encoding of frames on which no part has changed by more
        than so many grey levels (0 means 4).  With ``erase``, results have the frame without the objects.
        With ``motion``, they have the motion of the points that :meth:`LiveStream.add_points` adds.
        ``ttl`` is how long the session stays after the stream broke; ``resume_token`` of its last result
        continues it.  ``on_rejected`` is called for each frame that cannot be used.
        """
        if overload not in OVERLOAD_POLICIES:
            raise ValueError(f"overload must be one of {', '.join(OVERLOAD_POLICIES)}, got {overload!r}")
        config = segmentation_pb2.StreamConfig(
            mask_options=wire.mask_options_to_proto(mask_options),
            overload=OVERLOAD_POLICIES[overload],
            budget=wire.budget_to_proto(budget),
            motion_gate=None if motion_gate is None else budget_pb2.MotionGate(threshold=motion_gate),
            erase=None if erase is None else wire.erase_options_to_proto(erase),
            motion=None if motion is None else wire.motion_options_to_proto(motion),
            resume_token=resume_token,
        )
        if ttl is not None:
            config.ttl.FromTimedelta(ttl)
        stream = LiveStream(
            partial(self._connection.stream_requests, "SegmentStream"),
            on_rejected,
            max_results=MAX_RESULTS if overload == "wait" else MAX_LIVE_RESULTS,
            skips=overload != "wait",
        )
        try:
            await stream.open(config)
            yield stream
        except BaseException:
            await stream.leave()
            raise
        if not stream.was_left:
            await stream.leave()
            with contextlib.suppress(SessionNotFound):  # a stream that finishes deletes its session
                await (await self.attach(stream.session_id)).delete()
