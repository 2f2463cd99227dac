"""Golden outputs of the original SAM 3, in the test data; tests that need them are skipped without it."""

import importlib.util
import json
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.image_encoder import TrunkEncoder
from maskmesh.nn import sam3_layouts
from maskmesh.nn.checkpoint import expected_keys
from maskmesh.nn.image_features import TrunkFeatures
from maskmesh.nn.sam3_layouts import Layout
from tests.golden import DATA
from tracker_svc.model import config as tracker_config
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.tracking_model import TrackingModel

SAM3 = DATA / "sam3"
PRESET = "sam3-test"
IMAGE_SIZE = 168


@cache
def official_state(preset: str = PRESET, score_bias: float = 7.0) -> dict[str, Tensor]:
    """The reproducible weights of the golden outputs in the layout of the official checkpoint."""
    spec = importlib.util.spec_from_file_location("sam3_weights", SAM3 / "weights.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = "small" if preset == PRESET else preset
    keys = json.loads((SAM3 / "checkpoint_keys" / f"{name}.json").read_text())["keys"]
    state: dict[str, Tensor] = module.state_dict(keys, score_bias)
    return state


@cache
def state(score_bias: float = 7.0) -> sam3_layouts.ConvertedState:
    """The golden weights under the names that the services use."""
    sources = sam3_layouts.sources(Layout.OFFICIAL, expected_keys(PRESET))
    return sam3_layouts.ConvertedState(official_state(PRESET, score_bias), sources)


@cache
def encoder() -> TrunkEncoder:
    """The encoder with the golden weights."""
    model = encoder_weights.build(encoder_config.PRESETS[PRESET], state())
    assert isinstance(model, TrunkEncoder)
    return model


@cache
def tracking_model(score_bias: float = 7.0) -> TrackingModel:
    """The tracking model with the golden weights."""
    return tracker_weights.build(tracker_config.PRESETS[PRESET], state(score_bias))


def model_input(pixels: Any) -> Tensor:
    """pixels: [S, S, 3] uint8; returns [1, 3, S, S]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255 / 0.5 - 1


@cache
def image_embedding() -> TrunkFeatures:
    """The embedding of the golden image."""
    with torch.inference_mode():
        features: TrunkFeatures = encoder()(model_input(Image.open(SAM3 / "image_168.png").convert("RGB")))
    return features


@cache
def frame_embedding(index: int) -> TrunkFeatures:
    """The embedding of a golden frame, reduced to the size of the tracker's golden outputs."""
    frame = Image.open(SAM3 / "frames" / f"{index:05}.png").convert("RGB")
    with torch.inference_mode():
        features: TrunkFeatures = encoder()(
            model_input(frame.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX))
        )
    return features


@cache
def arrays(name: str) -> Any:
    """The arrays of one golden file."""
    return np.load(SAM3 / f"{name}.npz")
