"""PointService over gRPC, beside TrackerService in the same process."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from maskmesh import telemetry, wire
from maskmesh.errors import FrameOutOfMemory, InvalidRequest, ObjectNotFound
from maskmesh.internal.v1 import points_pb2, points_pb2_grpc
from maskmesh.masks import BoolArray, MaskFormat, MaskOptions, PackedMask
from maskmesh.scheduling.admission import Priority, QueueEntry
from maskmesh.v1 import points_pb2 as public_pb2
from tracker_svc.components import Components
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.points.motion_tokenizer import MotionCodes
from tracker_svc.points.point_stream import PointStream


class PointServicer(points_pb2_grpc.PointServiceServicer):
    """Serves calls once the tracker has started.  The proto describes its methods."""

    def __init__(
        self, components: Callable[[], Components], require_not_draining: Callable[[], None]
    ) -> None:
        self._components = components
        self._require_not_draining = require_not_draining
        self._streams: set[PointStream] = set()

    def end_streams(self, error: BaseException) -> None:
        """End all streams, which their callers open again at other trackers."""
        for stream in list(self._streams):
            stream.end(error)

    async def TrackPoints(
        self, request_iterator: AsyncIterator[points_pb2.TrackPointsRequest], context: Any
    ) -> AsyncIterator[points_pb2.TrackPointsResponse]:
        self._require_not_draining()
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("content") != "config":
            raise InvalidRequest("the first message must be the configuration", field="config")
        points = self._components().points
        if points is None:
            raise InvalidRequest("this tracker follows no points: --point-model sets a model", field="config")
        started = points_pb2.PointTrackStarted(
            model=wire.model_info_to_proto(points.info),
            memory_frames=points.model.memory_frames,
            tokenizer_points=0 if points.tokenizer is None else points.tokenizer.num_points,
        )
        with points.room(first.config.points) as room:
            stream = PointStream(points, first.config.session_id, room)
            self._require_not_draining()  # it may have begun since the call came
            self._streams.add(stream)
            try:
                yield points_pb2.TrackPointsResponse(started=started)
                async with contextlib.aclosing(stream.run(request_iterator)) as responses:
                    async for response in responses:
                        yield response
            finally:
                self._streams.discard(stream)

    async def PlacePoints(self, request: points_pb2.PlacePointsRequest, context: Any) -> Any:
        self._require_not_draining()
        components, grid = self._components(), request.grid
        session = await components.registry.find(request.session_id, request.epoch)
        async with session.lock:
            session.require_open()
            obj = session.objects.get(grid.obj_id)
            if obj is None or obj.is_dismissed:
                raise ObjectNotFound(f"there is no object {grid.obj_id}", obj_id=grid.obj_id)
            state = obj.bank.current(grid.frame_index)
            if state is None:
                raise FrameOutOfMemory(
                    f"object {grid.obj_id} has no mask on frame {grid.frame_index}: prompt or track it there",
                    frame_index=grid.frame_index,
                )
            options = MaskOptions(MaskFormat.PACKED_BITS)
            width, height = request.width, request.height
            [found] = await components.worker.run(
                lambda: object_masks([grid.obj_id], [state], options, width=width, height=height)
            )
        assert isinstance(found.mask, PackedMask), "the options ask for it"
        points = points_inside(found.mask.decode(), grid.rows, grid.columns)
        return points_pb2.PlacePointsResponse(
            points=[
                public_pb2.PointQuery(
                    point_id=grid.first_point_id + number, frame_index=grid.frame_index, x=x, y=y
                )
                for number, (x, y) in enumerate(points)
            ]
        )

    async def TokenizeMotion(self, request: points_pb2.TokenizeMotionRequest, context: Any) -> Any:
        self._require_not_draining()
        points = self._components().points
        tokenizer = None if points is None else points.tokenizer
        if points is None or tokenizer is None:
            raise InvalidRequest(
                "this tracker has no motion tokenizer: --motion-checkpoint sets one", field="motion.tokens"
            )
        if request.points != tokenizer.num_points:
            raise InvalidRequest(
                f"the motion tokenizer reads {tokenizer.num_points} points, and the window has "
                f"{request.points}",
                field="motion.tokens",
            )
        velocities = np.frombuffer(request.velocities, np.float32)
        if velocities.size != request.intervals * request.points * 2 or not np.isfinite(velocities).all():
            raise InvalidRequest("they must be intervals x points x 2 finite numbers", field="velocities")
        velocities = velocities.reshape(request.intervals, request.points, 2)
        recorder = points.recorder(0)

        def run() -> MotionCodes:
            with recorder.stage(telemetry.MOTION_TOKENIZER):
                return tokenizer.tokenize(velocities)

        entry = QueueEntry(Priority.AHEAD, request.tenant)
        found = await points.worker.run(run, recorder=recorder, entry=entry)
        telemetry.emit_soon(recorder.records, None)
        return points_pb2.TokenizeMotionResponse(
            codes=found.codes,
            energy=found.energy,
            stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
        )


def points_inside(mask: BoolArray, rows: int, columns: int) -> list[tuple[float, float]]:
    """The centres of the cells of a grid over the box of a mask that lie inside the mask, in row order.

    mask: [H, W].  Returns x and y in pixels; the centre of the first pixel is at 0.5.
    """
    if not mask.any():
        return []
    ys, xs = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    x0, x1, y0, y1 = xs[0], xs[-1] + 1, ys[0], ys[-1] + 1
    x = x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    row, column = np.nonzero(mask[y.astype(int)][:, x.astype(int)])
    return list(zip(x[column].tolist(), y[row].tolist(), strict=True))
