"""The limit of live streams that erase objects."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from maskmesh import ResourceExhausted
from maskmesh.rpc.status import translate_rpc_errors
from maskmesh.v1 import erase_pb2, segmentation_pb2, segmentation_pb2_grpc
from tests.gateway.in_process import running_gateway

V1: Any = segmentation_pb2


async def begun(stub: Any, **config: Any) -> tuple[Any, Any]:
    """A stream that erases objects, and the message with which it started."""
    erasing = V1.StreamConfig(erase=erase_pb2.EraseOptions(), **config)
    call = stub.ReceiveStream(V1.ReceiveStreamRequest(config=erasing), timeout=20)
    with translate_rpc_errors():
        message = await call.read()
    return call, message.response.started


async def test_a_stream_that_resumes_does_not_count_twice(tmp_path: Path) -> None:
    """The gateway may notice only later that the connection of the first stream has broken."""
    async with (
        running_gateway(tmp_path, max_erasers=1) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        first, started = await begun(stub)
        sessions = set(gateway.trackers[0].sessions)
        with pytest.raises(ResourceExhausted, match="objects of 1 sessions are erased"):
            await begun(stub)
        assert set(gateway.trackers[0].sessions) == sessions, "the session of the refused stream is deleted"
        second, again = await begun(stub, resume_token=started.resume_token)
        assert again.session_id == started.session_id
        first.cancel()
        second.cancel()
