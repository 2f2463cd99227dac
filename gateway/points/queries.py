"""The points of a TrackPoints call: checked, and grids made into points."""

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.sessions.session import GatewaySession
from gateway.sessions.session_router import SessionRouter
from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import points_pb2
from maskmesh.v1 import points_pb2 as public_pb2
from maskmesh.v1 import segmentation_pb2

# Points of one call.
MAX_POINTS = 4096
MAX_SIDE = 256
MAX_GRIDS = 64

# Of the first point of a grid: the others have the next numbers.
MAX_NUMBER = 2**62

Queries = Mapping[int, Sequence[public_pb2.PointQuery]]
"""Points by the frame on which they are chosen."""


async def points_of(
    request: public_pb2.TrackPointsRequest,
    session: GatewaySession,
    router: SessionRouter,
    timeout: float | None,
) -> Queries:
    """The points of a request.  Raises InvalidRequest, ObjectNotFound, FrameOutOfMemory."""
    if not request.points and not request.grids:
        raise InvalidRequest("at least one point or grid is needed", field="points")
    if len(request.grids) > MAX_GRIDS:
        raise InvalidRequest(f"a call has at most {MAX_GRIDS} grids", field="grids")
    for number, point in enumerate(request.points):
        _check_point(point, session, f"points[{number}]")
    for number, grid in enumerate(request.grids):
        _check_grid(grid, session, f"grids[{number}]")
    plain = (grid.rows * grid.columns for grid in request.grids if not grid.HasField("obj_id"))
    check_count(len(request.points) + sum(plain))
    found = list(request.points)
    for number, grid in enumerate(request.grids):
        if not grid.HasField("obj_id"):
            found += _centres(grid, session.frames.width, session.frames.height)
        else:
            found += await _inside(grid, session, router, timeout, f"grids[{number}]")
            check_count(len(found))
    seen: set[int] = set()
    by_frame: dict[int, list[public_pb2.PointQuery]] = defaultdict(list)
    for point in found:
        if point.point_id in seen:
            raise InvalidRequest(f"the number {point.point_id} is used twice", field="points")
        seen.add(point.point_id)
        by_frame[point.frame_index].append(point)
    return dict(by_frame)


async def points_of_stream(
    message: segmentation_pb2.StreamPoints, frame_index: int, session: GatewaySession, router: SessionRouter
) -> Sequence[public_pb2.PointQuery]:
    """The points that a message of a live stream chooses on a frame.

    Raises InvalidRequest, ObjectNotFound, FrameOutOfMemory.
    """
    request = public_pb2.TrackPointsRequest(points=message.points, grids=message.grids)
    named: dict[str, Any] = {f"points[{n}]": point for n, point in enumerate(request.points)}
    named |= {f"grids[{n}]": grid for n, grid in enumerate(request.grids)}
    for name, one in named.items():
        if one.frame_index:
            raise InvalidRequest("it must be 0: sequence is the frame", field=f"{name}.frame_index")
        one.frame_index = frame_index
    return (await points_of(request, session, router, None))[frame_index]


def digest_of(queries: Queries) -> str:
    """A short digest of all points, which a call that is resumed must have again."""
    digest = hashlib.sha256()
    for frame_index in sorted(queries):
        for point in queries[frame_index]:
            digest.update(struct.pack("<qqff", frame_index, point.point_id, point.x, point.y))
    return digest.hexdigest()[:16]


def check_count(count: int) -> None:
    """Raises InvalidRequest if a call has too many points."""
    if count > MAX_POINTS:
        raise InvalidRequest(f"{count} points, and a call has at most {MAX_POINTS}", field="points")


def _check_point(point: public_pb2.PointQuery, session: GatewaySession, field: str) -> None:
    frames = session.frames
    frames.check_index(point.frame_index, field=f"{field}.frame_index")
    for name, value, limit in (("x", point.x, frames.width), ("y", point.y, frames.height)):
        if not 0 <= value <= limit:
            raise InvalidRequest(f"it must be 0 to {limit}, the size of the frame", field=f"{field}.{name}")


def _check_grid(grid: public_pb2.PointGrid, session: GatewaySession, field: str) -> None:
    session.frames.check_index(grid.frame_index, field=f"{field}.frame_index")
    for name in ("rows", "columns"):
        if not 1 <= getattr(grid, name) <= MAX_SIDE:
            raise InvalidRequest(f"it must be 1 to {MAX_SIDE}", field=f"{field}.{name}")
    if grid.first_point_id > MAX_NUMBER:
        raise InvalidRequest(f"it must be at most {MAX_NUMBER}", field=f"{field}.first_point_id")


def _centres(grid: public_pb2.PointGrid, width: int, height: int) -> Iterable[public_pb2.PointQuery]:
    """The centres of equal parts of the frame, in row order."""
    for number in range(grid.rows * grid.columns):
        row, column = divmod(number, grid.columns)
        yield public_pb2.PointQuery(
            point_id=grid.first_point_id + number,
            frame_index=grid.frame_index,
            x=(column + 0.5) * width / grid.columns,
            y=(row + 0.5) * height / grid.rows,
        )


async def _inside(
    grid: public_pb2.PointGrid,
    session: GatewaySession,
    router: SessionRouter,
    timeout: float | None,
    field: str,
) -> Sequence[public_pb2.PointQuery]:
    """The points of a grid inside the mask of an object, which the session's tracker has."""
    message = points_pb2.PlacePointsRequest(
        session_id=session.session_id,
        grid=grid,
        width=session.frames.width,
        height=session.frames.height,
    )
    response = await router.call(session, "PlacePoints", message, timeout)
    if not response.points:
        raise InvalidRequest(
            "no point of the grid lies inside the mask of the object", field=f"{field}.obj_id"
        )
    placed: Sequence[public_pb2.PointQuery] = response.points
    return placed
