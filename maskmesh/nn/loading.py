"""From the settings of a service to its half of the model on a device."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from maskmesh.checkpoints.catalogue import pulled_checkpoint
from maskmesh.config import ModelSettings
from maskmesh.nn import amx
from maskmesh.nn.checkpoint import (
    CheckpointError,
    bundled_weights,
    read_checkpoint,
    weights_digest,
)
from maskmesh.nn.device import usable_device
from maskmesh.nn.dtype import bfloat16_of, choose_dtype
from maskmesh.scheduling.control_groups import available_cores
from maskmesh.scheduling.cpu_sharing import ThreadLayout, choose_layout
from maskmesh.types import ModelInfo

logger = logging.getLogger(__name__)

# Version of ``encoder_svc.model.preprocess``; part of the model id, because another preprocessing makes
# another embedding.
PREPROCESS_VERSION = 1

POINT_HINT = (
    "set --point-checkpoint to its file (.pt or .safetensors), or use --point-model lucas-kanade, which has "
    "no weights"
)

LUCAS_KANADE = "lucas-kanade"
"""The preset of points without a model."""

# Untrained presets have the weights of this seed.
UNTRAINED_SEED = 0
UNTRAINED_DIGEST = f"untrained-{UNTRAINED_SEED}"


class Model(Protocol):
    """Half of the model, as a service runs it."""

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights."""

    def parameters(self) -> Any:
        """The weights."""


M = TypeVar("M", bound=Model)
S = TypeVar("S", bound=ModelSettings)


@dataclass(frozen=True, slots=True)
class LoadedModel(Generic[M]):
    """A model on its device, and its description."""

    model: M
    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    layout: ThreadLayout
    checkpoint: Path | None = None
    """The file of its weights; None for untrained ones."""


@dataclass(frozen=True, slots=True)
class ModelId:
    """Identity of a model; embeddings of two models are interchangeable if all fields are equal."""

    name: str
    weights: str
    """A digest of the weights of the whole model."""
    image_size: int
    dtype: str
    preprocessing: int
    quantisation: str = "none"

    def __str__(self) -> str:
        return (
            f"{self.name}/{self.weights[:16]}/{self.image_size}/{self.dtype}"
            f"/{self.quantisation}/preprocess-{self.preprocessing}"
        )


def load_model(
    settings: ModelSettings,
    presets: Mapping[str, Any],
    build: Callable[[Any, Mapping[str, Tensor] | None, torch.dtype], M],
    hint: str = "",
) -> LoadedModel[M]:
    """Build the model of the settings from the configurations in ``presets``.

    ``hint`` is what to do about a checkpoint that is missing, by default for models of masks.

    ``build`` takes a configuration, the whole checkpoint or None for untrained weights, and the type to
    which large weights may be cast while they are read.  Raises CheckpointError for an unknown preset, an
    image size that the model does not take, or a checkpoint that is missing or does not fit, and OSError if
    the file cannot be read.
    """
    if settings.model not in presets:
        raise CheckpointError(f"there is no model {settings.model!r}; known: {', '.join(presets)}")
    config = presets[settings.model]
    if settings.image_size is not None:
        try:
            config = replace(config, image_size=settings.image_size)
        except ValueError as error:
            raise CheckpointError(f"{settings.model}: {error}") from None
    state, digest = None, UNTRAINED_DIGEST
    checkpoint = settings.checkpoint or bundled_weights(settings.model) or pulled_checkpoint(settings.model)
    if checkpoint is not None:
        state = read_checkpoint(settings.model, checkpoint)
        digest = weights_digest(state)
    elif config.trained:
        hint = hint or (
            f"set --checkpoint to its file (.pt or .safetensors), get it by maskmesh models pull "
            f"{settings.model}, or use --model micro, which has its own weights"
        )
        raise CheckpointError(f"{settings.model} needs a checkpoint: {hint}")
    layout = choose_layout(
        settings.threads,
        cores=min(torch.get_num_threads(), available_cores()),
        shares_cores=settings.shared_cores is not None,
        device=settings.device,
        image_size=config.image_size,
    )
    logger.info("%d threads: %s", layout.threads, layout.reason)
    device = usable_device(settings.device)
    choice = choose_dtype(settings.dtype, device=settings.device, bfloat16=bfloat16_of(device))
    logger.info("%s: %s", choice.name, choice.reason)
    if device.type == "cpu" and choice.name == "bfloat16":
        logger.info("attention: %s", amx.enable(Path(torch.__file__).parent / "lib"))
    dtype = getattr(torch, choice.name)
    model = build(config, state, dtype).move_to(device, dtype)
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
    return LoadedModel(model, info, device, dtype, layout, checkpoint)


def point_settings(settings: S) -> S:
    """The settings of the model for points, for :func:`load_model`.

    Lucas-Kanade has no weights; its pictures stay in float32.
    """
    changes = {
        "model": settings.point_model,
        "checkpoint": settings.point_checkpoint,
        "image_size": None,
        "dtype": "float32" if settings.point_model == LUCAS_KANADE else settings.dtype,
    }
    return settings.model_copy(update=changes)


def assign_weights(
    model: nn.Module, state: Mapping[str, Tensor], keys: Mapping[str, str], dtype: torch.dtype
) -> None:
    """Give a model on the meta device its weights, one tensor at a time.

    ``keys`` has the key in ``state`` for each of the model's own keys.  Weights are cast to ``dtype`` while
    they are read, so that a model never takes more memory than in its final type.  Parameters that the model
    names in ``float32_keys`` stay in float32.
    """
    kept: Collection[str] = getattr(model, "float32_keys", ())
    for own, key in keys.items():
        owner, _, name = own.rpartition(".")
        module = model.get_submodule(owner)
        value = state[key].to(torch.float32 if own in kept else dtype, copy=True)
        if name in module._parameters:
            module._parameters[name] = nn.Parameter(value, requires_grad=False)
        else:
            module._buffers[name] = value


def seeded(make: Callable[[], M]) -> M:
    """A model with the untrained weights, without a change of torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        return make()
