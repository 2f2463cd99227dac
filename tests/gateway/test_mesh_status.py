"""GetMesh: the state of all services, also of those that do not answer."""

import hashlib
from pathlib import Path

import grpc
import pytest

from gateway.api_keys import ApiKeys, current_caller
from gateway.backends.encoders import EncoderRing
from gateway.mesh_status import mesh_status
from maskmesh import Unavailable
from maskmesh.internal.v1 import encoder_pb2_grpc
from maskmesh.status import ServiceStatus, SessionCounts
from tests.gateway.in_process import FakeEncoder, running_gateway, serving


async def test_other_keys_than_an_operators_see_no_addresses(tmp_path: Path) -> None:
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("ops", "guest")}
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[key]]\nname = "ops"\nsha256 = "{digests["ops"]}"\noperator = true\n'
        f'[[key]]\nname = "guest"\nsha256 = "{digests["guest"]}"\n'
    )
    caller = ApiKeys(keys)
    caller.authenticate({"authorization": "Bearer ops"})
    assert current_caller().is_operator
    caller.authenticate({"authorization": "Bearer guest"})
    assert not current_caller().is_operator
    response = await mesh_status(
        [NoBackends()],  # type: ignore[list-item]
        NoBackends(),  # type: ignore[arg-type]
        SessionCounts(open=3, propagating=1, limit=9),
        draining=False,
        trace_url="",
    )
    [own] = response.services
    assert (own.host, own.address, own.HasField("sessions")) == ("", "", False)
    assert own.usage.resident_bytes > 0


class NoBackends:
    """Encoders and trackers, of which there are none."""

    async def statuses(self, timeout: float) -> list[ServiceStatus]:
        return []


async def test_an_encoder_whose_name_cannot_be_resolved_has_an_error() -> None:
    ring = EncoderRing("dns:///no-such-host.invalid:1", max_message_bytes=2**20)
    try:
        [status] = await ring.statuses(5.0)
    finally:
        await ring.close()
    assert "cannot be resolved" in status.error
    assert status.kind == "encoder"


async def test_all_services_are_described(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, trackers=2, trace_url="http://jaeger/trace/{trace_id}") as gateway:
        slow, dead = sorted(gateway.trackers, key=gateway.trackers.index)
        slow.clock_ahead_seconds = 30.0
        dead.errors["GetTrackerStatus"] = [Unavailable("out of order")]
        async with gateway.client.stream():
            mesh = await gateway.client.mesh()
    assert mesh.trace_url == "http://jaeger/trace/{trace_id}"
    assert [service.kind for service in mesh.services] == ["gateway", "encoder", "tracker", "tracker"]
    [own] = mesh.of_kind("gateway")
    assert own.usage is not None
    assert 0 < own.usage.resident_bytes <= own.usage.peak_resident_bytes
    assert own.usage.cpu_seconds > 0
    assert own.usage.visible_cores >= own.usage.granted_cores >= 1
    assert own.sessions is not None
    assert (own.sessions.open, own.sessions.propagating) == (1, 1)
    [encoder] = mesh.of_kind("encoder")
    assert encoder.address == gateway.encoder.address
    assert encoder.queues == {"device": 4}
    assert encoder.cache is not None
    assert (encoder.cache.hits, encoder.cache.budget_bytes) == (3, 99)
    assert encoder.model is not None
    assert encoder.model.name == "fake"
    answered, failed = sorted(mesh.of_kind("tracker"), key=lambda tracker: tracker.error)
    assert failed.error == "out of order"
    assert answered.clock_offset_seconds == pytest.approx(30, abs=0.5)
    assert 0 < answered.response_seconds < 1


async def test_encoders_of_points_are_described_if_they_are_others(tmp_path: Path) -> None:
    points = FakeEncoder()

    def register(server: grpc.aio.Server) -> None:
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(points, server)

    async with (
        serving("encoder", register, "maskmesh.internal.v1.EncoderService") as (_, address),
        running_gateway(tmp_path, point_encoder=address) as gateway,
    ):
        encoders = (await gateway.client.mesh()).of_kind("encoder")
        assert {encoder.address for encoder in encoders} == {gateway.encoder.address, address}
