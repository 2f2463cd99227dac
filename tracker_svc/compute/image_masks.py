"""Masks on a single image, without memory.  Runs on the device's thread."""

from collections.abc import Sequence

import torch

from maskmesh import telemetry
from maskmesh.masks import LowResLogits
from maskmesh.telemetry import StageRecorder
from maskmesh.types import Prompt
from tracker_svc.compute.prompt_tensors import mask_input, point_tensors
from tracker_svc.compute.states import alternative_states
from tracker_svc.compute.step import Frame, prepare_features
from tracker_svc.memory.frame_state import FrameState
from tracker_svc.model.tracking_model import TrackingModel


@torch.inference_mode()
def image_masks(
    model: TrackingModel,
    frame: Frame,
    prompts: Sequence[Prompt],
    *,
    multimask_output: bool,
    recorder: StageRecorder,
) -> list[list[FrameState]]:
    """Decode masks: one for each prompt, or three, the most confident first.

    Masks of objects that the model predicts to be absent are not blanked, as in the image predictor of the
    reference implementation.
    """
    prepare_features(model, [frame], [recorder])
    results = []
    features = None
    for prompt in prompts:
        with recorder.stage(telemetry.PROMPT_ENCODER):
            coords, labels = point_tensors(prompt, frame, model)
            logits = None
            if isinstance(prompt.mask, LowResLogits):
                logits = mask_input(prompt.mask, model)
            encoded = model.encode_prompts(coords, labels, logits)
        with recorder.stage(telemetry.MASK_DECODER):
            if features is None:
                features = model.without_memory(frame.features)
            decoded = model.decode(features, frame.features, encoded, multimask_output=multimask_output)
        results.append(alternative_states(decoded))
    return results
