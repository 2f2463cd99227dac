"""The messages of a tracked frame."""

from collections.abc import Sequence

from maskmesh import telemetry, wire
from maskmesh.internal.v1 import embedding_pb2, tracker_pb2
from maskmesh.telemetry import StageRecorder
from maskmesh.v1 import types_pb2
from tracker_svc.compute.step import Frame, Tracked
from tracker_svc.following.lifecycle import Lifecycle
from tracker_svc.frame_trace import FrameTrace


def frame_masks(
    frame_index: int, frame: Frame, recorder: StageRecorder, tracked: Tracked, lives: Sequence[Lifecycle]
) -> types_pb2.FrameMasks:
    """The masks of a frame; ``lives`` are those of the objects of concepts, after the frame."""
    shown = {mask.obj_id for mask in tracked.masks}
    return types_pb2.FrameMasks(
        frame_index=frame_index,
        objects=[wire.object_mask_to_proto(mask) for mask in tracked.masks],
        conditioning=tracked.conditioning,
        width=frame.width,
        height=frame.height,
        stage_times=wire.stage_times_to_proto(telemetry.stage_seconds(recorder.records)),
        new_obj_ids=[obj_id for life in lives for obj_id in life.new_on(frame_index) if obj_id in shown],
        gone_obj_ids=[obj_id for life in lives for obj_id in life.gone_on(frame_index)],
        held_back_obj_ids=tracked.held_back,
    )


def track_result(
    masks: types_pb2.FrameMasks, trace: FrameTrace, *, sent_ns: int, hotstart_delay: int
) -> tracker_pb2.TrackResult:
    """The result of a frame whose trace is finished."""
    return tracker_pb2.TrackResult(
        frame=masks,
        handling=embedding_pb2.Handling(
            received_unix_nanos=trace.received_ns,
            sent_unix_nanos=sent_ns,
            host=telemetry.this_host(),
            clock_offset_nanos=trace.clock_offset_ns,
        ),
        work=wire.work_to_proto(trace.work),
        hotstart_delay=hotstart_delay,
    )
