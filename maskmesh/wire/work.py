"""Conversion of summaries of work to messages and back."""

from maskmesh.internal.v1 import embedding_pb2
from maskmesh.telemetry import WorkSummary
from maskmesh.wire.masks import stage_seconds_from_proto, stage_times_to_proto


def work_to_proto(work: WorkSummary) -> embedding_pb2.WorkSummary:
    """Convert a summary to a message."""
    return embedding_pb2.WorkSummary(
        times=stage_times_to_proto(work.seconds), batch_sizes=work.batch_sizes, cold=work.is_cold
    )


def work_from_proto(message: embedding_pb2.WorkSummary) -> WorkSummary:
    """Convert a message to a summary."""
    return WorkSummary(stage_seconds_from_proto(message.times), dict(message.batch_sizes), message.cold)
