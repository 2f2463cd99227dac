"""Golden outputs of the original implementation, in MASKMESH_TEST_DATA or next to the repository.

They are not part of this repository; tests that need them are skipped if they are missing.
"""

import importlib.util
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.image_encoder import ImageEncoder
from encoder_svc.model.preprocess import preprocess
from maskmesh.nn.image_features import ImageFeatures
from tracker_svc.model import config as tracker_config
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.tracking_model import TrackingModel

PROJECT = Path(__file__).parent.parent
DATA = Path(os.environ.get("MASKMESH_TEST_DATA", PROJECT.parent / "shared" / "data"))
GOLDEN = DATA / "golden"
IMAGE_SIZE = 256
FRAMES = 24

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="test data is missing: MASKMESH_TEST_DATA")


@cache
def tiny_state(score_bias: float = 4.0) -> dict[str, Tensor]:
    """The reproducible weights of the golden outputs, as a complete checkpoint."""
    spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN / "weights.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    keys = json.loads((DATA / "checkpoint_keys" / "sam2.1_hiera_tiny.json").read_text())["keys"]
    state: dict[str, Tensor] = module.state_dict(keys, score_bias)
    return state


@cache
def tiny_encoder() -> ImageEncoder:
    """The encoder of sam2.1-tiny at the size of the golden frames."""
    config = replace(encoder_config.PRESETS["sam2.1-tiny"], image_size=IMAGE_SIZE)
    encoder = encoder_weights.build(config, tiny_state())
    assert isinstance(encoder, ImageEncoder)
    return encoder


@cache
def tiny_tracker(score_bias: float = 4.0) -> TrackingModel:
    """The tracking model of sam2.1-tiny at the size of the golden frames."""
    config = replace(tracker_config.PRESETS["sam2.1-tiny"], image_size=IMAGE_SIZE)
    return tracker_weights.build(config, tiny_state(score_bias))


@cache
def frame_features(index: int) -> ImageFeatures:
    """The embedding of a golden frame; it does not depend on the score bias."""
    pixels = np.array(Image.open(GOLDEN / "frames" / f"{index:05}.png").convert("RGB"))
    image = preprocess(torch.from_numpy(pixels), IMAGE_SIZE, torch.device("cpu"), torch.float32)
    with torch.inference_mode():
        return ImageFeatures(*tiny_encoder()(image))


@cache
def arrays(name: str) -> Any:
    """The arrays of one golden file."""
    return np.load(GOLDEN / f"{name}.npz")


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest absolute difference divided by the largest absolute expected value."""
    return float((actual - expected).abs().max() / expected.abs().max())
