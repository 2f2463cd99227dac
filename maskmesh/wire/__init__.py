"""Conversion of values to messages and back, with all checks of incoming messages that need no state."""

from maskmesh.wire.embeddings import (
    embedding_ref_from_proto,
    embedding_ref_to_proto,
    shared_block_from_proto,
    shared_block_to_proto,
    tensor_spec_to_proto,
    tensor_specs_from_proto,
)
from maskmesh.wire.images import fill_image, image_from_proto, image_to_proto
from maskmesh.wire.masks import (
    fill_frame_time,
    frame_masks_from_proto,
    mask_from_proto,
    mask_options_from_proto,
    mask_options_to_proto,
    mask_to_proto,
    object_mask_from_proto,
    object_mask_to_proto,
    stage_seconds_from_proto,
    stage_times_to_proto,
)
from maskmesh.wire.models import model_info_from_proto, model_info_to_proto
from maskmesh.wire.prompts import MAX_POINTS, check_contradiction, prompt_from_proto, prompt_to_proto
from maskmesh.wire.sessions import (
    direction_to_proto,
    frame_range_from_proto,
    frame_range_to_proto,
    history_from_proto,
    history_to_proto,
    recorded_prompt_from_proto,
    reverse_from_proto,
    session_objects_from_proto,
    session_objects_to_proto,
    session_state_from_proto,
)
from maskmesh.wire.work import work_from_proto, work_to_proto

__all__ = [
    "MAX_POINTS",
    "check_contradiction",
    "direction_to_proto",
    "embedding_ref_from_proto",
    "embedding_ref_to_proto",
    "fill_frame_time",
    "fill_image",
    "frame_masks_from_proto",
    "frame_range_from_proto",
    "frame_range_to_proto",
    "history_from_proto",
    "history_to_proto",
    "image_from_proto",
    "image_to_proto",
    "mask_from_proto",
    "mask_options_from_proto",
    "mask_options_to_proto",
    "mask_to_proto",
    "model_info_from_proto",
    "model_info_to_proto",
    "object_mask_from_proto",
    "object_mask_to_proto",
    "prompt_from_proto",
    "prompt_to_proto",
    "recorded_prompt_from_proto",
    "reverse_from_proto",
    "session_objects_from_proto",
    "session_objects_to_proto",
    "session_state_from_proto",
    "shared_block_from_proto",
    "shared_block_to_proto",
    "stage_seconds_from_proto",
    "stage_times_to_proto",
    "tensor_spec_to_proto",
    "tensor_specs_from_proto",
    "work_from_proto",
    "work_to_proto",
]
