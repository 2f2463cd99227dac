"""ExportSession and ImportSession: a session moves from one tracker to another without a store."""

import asyncio
from collections.abc import AsyncIterator

from maskmesh.errors import InvalidRequest
from maskmesh.internal.v1 import snapshot_pb2, tracker_pb2
from tracker_svc.sessions.session_registry import SessionRegistry


async def export_session(
    registry: SessionRegistry, request: tracker_pb2.ExportSessionRequest
) -> AsyncIterator[tracker_pb2.ExportSessionResponse]:
    """Yield the parts of a session; the proto lists the errors."""
    session = await registry.find(request.session_id, request.epoch)
    async with session.lock:
        await session.replicator.confirm()
        async for part in registry.export(session):
            if isinstance(part, snapshot_pb2.SessionSnapshot):
                yield tracker_pb2.ExportSessionResponse(session=part)
            else:
                yield tracker_pb2.ExportSessionResponse(state=part)
        # Changes that wait for the lock are refused, and repeated at the other tracker.
        session.was_exported = True


async def import_session(
    registry: SessionRegistry, requests: AsyncIterator[tracker_pb2.ImportSessionRequest]
) -> tracker_pb2.ImportSessionResponse:
    """Create a session from its parts; the proto lists the errors."""
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("content") != "config":
        raise InvalidRequest("the first message must be the configuration", field="config")
    session, restorer = registry.begin_import(first.config.session)
    try:
        async for request in requests:
            match request.WhichOneof("content"):
                case "state":
                    await asyncio.to_thread(restorer.add, request.state)
                case "finish":
                    restorer.finish()
                    registry.finish_import(session, first.config.epoch, is_stored=False)
                    await session.replicator.flush()
                    return tracker_pb2.ImportSessionResponse()
                case _:
                    raise InvalidRequest("only states may follow the configuration", field="content")
        raise InvalidRequest("the call ended without a finish message", field="content")
    except BaseException:
        registry.abort_import(session)
        raise
