"""From settings to a model on its device."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from encoder_svc.config import EncoderSettings
from encoder_svc.model import weights
from encoder_svc.model.config import PRESETS
from encoder_svc.model.image_encoder import ImageEncoder
from encoder_svc.model.preprocess import PREPROCESS_VERSION
from maskmesh.nn import amx
from maskmesh.nn.checkpoint import CheckpointError, bundled_weights, check_keys
from maskmesh.nn.dtype import choose_dtype
from maskmesh.scheduling.cores import Layout, choose_layout
from maskmesh.types import ModelId, ModelInfo

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model on its device, and what the world may know of it."""

    model: ImageEncoder
    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    layout: Layout


def load_model(settings: EncoderSettings) -> LoadedModel:
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
    layout = choose_layout(
        settings.threads,
        cores=torch.get_num_threads(),
        shares_cores=settings.shared_cores is not None,
        device=settings.device,
        image_size=config.image_size,
    )
    logger.info("%d threads: %s", layout.threads, layout.reason)
    device = torch.device(settings.device)
    choice = choose_dtype(settings.dtype, device=settings.device, has_bfloat16=has_bfloat16(device))
    logger.info("%s: %s", choice.name, choice.reason)
    if device.type == "cpu" and choice.name == "bfloat16":
        logger.info("attention: %s", amx.enable(Path(torch.__file__).parent / "lib"))
    dtype = getattr(torch, choice.name)
    model = weights.build(config, state).to(device, dtype)
    model_id = ModelId(settings.model, digest, config.image_size, choice.name, PREPROCESS_VERSION)
    info = ModelInfo(
        model_id=str(model_id),
        name=settings.model,
        image_size=config.image_size,
        trained=state is not None,
        parameters=sum(p.numel() for p in model.parameters()),
        device=str(device),
        dtype=choice.name,
        threads=layout.threads,
    )
    return LoadedModel(model, info, device, dtype, layout)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself: on a CPU with AMX, AVX-512 or the like."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in ("amx_bf16", "avx512_bf16", "bf16"))
