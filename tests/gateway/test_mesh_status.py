"""GetMesh: the state of all services, also of those that do not answer."""

from pathlib import Path

import pytest

from maskmesh import Unavailable
from tests.gateway.in_process import running_gateway


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
