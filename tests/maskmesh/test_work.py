"""Totals of a frame or call, as attributes of its span."""

from maskmesh import telemetry, wire
from maskmesh.telemetry import StageRecord, WorkSummary

MS = 1_000_000


def queue(start: int, end: int, waits_for: str) -> StageRecord:
    return StageRecord("queue", start * MS, end * MS, {telemetry.WAITS_FOR: waits_for})


def test_totals_are_attributes_with_flags() -> None:
    encoder = StageRecord("image_encoder", 0, 150 * MS, {telemetry.BATCH_SIZE: 4, telemetry.COLD: True})
    encoder.children = [queue(20, 40, "click")]
    records = [encoder, queue(150, 158, "device"), queue(160, 165, "device")]
    records.append(StageRecord("transfer", 170 * MS, 171 * MS, {telemetry.DIRECTION: "response"}))
    assert WorkSummary().add_records(records).attributes() == {
        "maskmesh.cold": True,
        "maskmesh.stage.image_encoder.ms": 130.0,  # without the click that interrupted it
        "maskmesh.stage.image_encoder.over_10ms": True,
        "maskmesh.stage.image_encoder.over_100ms": True,
        "maskmesh.stage.image_encoder.batch_size": 4,
        "maskmesh.wait.click.ms": 20.0,
        "maskmesh.wait.click.over_10ms": True,
        "maskmesh.wait.device.ms": 13.0,
        "maskmesh.wait.device.over_10ms": True,
        "maskmesh.transfer.response.ms": 1.0,
    }


def test_waits_that_hold_the_work_of_another_frame_count_whole() -> None:
    wait = queue(0, 50, "previous_frame")
    wait.children = [StageRecord("memory_encoder", 10 * MS, 40 * MS)]
    work = WorkSummary().add_records([wait])
    assert work.seconds == {"queue previous_frame": 0.05}


def test_summaries_of_services_are_added_and_travel() -> None:
    first = WorkSummary({"mask_decoder": 0.5, "queue device": 0.25}, {"mask_decoder": 2})
    second = WorkSummary({"mask_decoder": 0.25}, {"mask_decoder": 8}, is_cold=True)
    sent = wire.work_from_proto(wire.work_to_proto(first.add(second)))
    assert sent == WorkSummary({"mask_decoder": 0.75, "queue device": 0.25}, {"mask_decoder": 8}, True)
    assert "maskmesh.stage.mask_decoder.over_100ms" not in sent.attributes(flags=False)
