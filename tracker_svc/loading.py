"""From settings to a model on its device."""

from dataclasses import dataclass, replace

import torch

from maskmesh.checkpoint import CheckpointError, bundled_weights, check_keys
from maskmesh.types import ModelId, ModelInfo
from tracker_svc.config import TrackerSettings
from tracker_svc.model import weights
from tracker_svc.model.config import PRESETS
from tracker_svc.model.tracking_model import TrackingModel

# The version of preprocessing that this tracker's masks were checked with; part of the model id.
PREPROCESS_VERSION = 1


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model on its device, and what the world may know of it."""

    model: TrackingModel
    info: ModelInfo


def load_model(settings: TrackerSettings) -> LoadedModel:
    """Build the model of the settings.

    Raises CheckpointError for an unknown preset, a checkpoint that does not fit, or none where one is
    needed, and OSError where the file cannot be read.
    """
    if settings.model not in PRESETS:
        raise CheckpointError(f"there is no model {settings.model!r}; known: {', '.join(PRESETS)}")
    config = PRESETS[settings.model]
    if settings.image_size is not None:
        config = replace(config, image_size=settings.image_size)
    state, digest = None, weights.UNTRAINED_DIGEST
    checkpoint = settings.checkpoint or bundled_weights(settings.model)
    if checkpoint is not None:
        state = weights.read_checkpoint(checkpoint)
        check_keys(settings.model, {key: tuple(value.shape) for key, value in state.items()})
        digest = weights.weights_digest(state)
    elif config.trained:
        raise CheckpointError(f"{settings.model} needs a checkpoint")
    dtype = torch.float32
    model = weights.build(config, state).to(torch.device(settings.device), dtype)
    dtype_name = str(dtype).removeprefix("torch.")
    model_id = ModelId(settings.model, digest, config.image_size, dtype_name, PREPROCESS_VERSION)
    info = ModelInfo(
        model_id=str(model_id),
        name=settings.model,
        image_size=config.image_size,
        trained=state is not None,
        parameters=sum(p.numel() for p in model.parameters()),
        device=str(model.device),
        dtype=dtype_name,
        threads=torch.get_num_threads(),
    )
    return LoadedModel(model, info)
