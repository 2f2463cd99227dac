"""TAPIR equals the original: outputs of its own code with deterministic weights, in float32."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from encoder_svc.model.config import PointBackboneConfig
from encoder_svc.model.point_backbone import PointEncoder
from maskmesh.masks import ByteArray
from maskmesh.nn.image_features import PointFeatures
from tracker_svc.points.config import PointTrackerConfig
from tracker_svc.points.tapir import PointEstimate, PointQueries, PointTrackingModel

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SIZE = 256


class Models(NamedTuple):
    """Both parts with the deterministic weights."""

    encoder: PointEncoder
    tracker: PointTrackingModel


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    path = DATA / "tapir" / "golden.npz"
    if not path.is_file():
        pytest.skip("test data is missing")
    arrays: Mapping[str, np.ndarray] = np.load(path)
    return arrays


def models(*, causal: bool) -> Models:
    folder = DATA / "tapir"
    spec = importlib.util.spec_from_file_location("tapir_weights", folder / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = json.loads((folder / "checkpoint_keys.json").read_text())["causal" if causal else "offline"]
    state = module.state_dict(shapes)
    encoder = PointEncoder(PointBackboneConfig()).eval()
    tracker = PointTrackingModel(PointTrackerConfig(causal=causal)).eval()
    is_encoders = {key: key.startswith(("resnet_torch.", "extra_convs.")) for key in state}
    encoder.load_state_dict({k: v for k, v in state.items() if is_encoders[k]}, strict=True)
    tracker.load_state_dict({k: v for k, v in state.items() if not is_encoders[k]}, strict=True)
    return Models(encoder, tracker)


@pytest.fixture(scope="module")
def causal(golden: Mapping[str, np.ndarray]) -> Models:
    return models(causal=True)


@pytest.fixture(scope="module")
@torch.inference_mode()
def clip(causal: Models) -> PointFeatures:
    """The embeddings of the 16 frames."""
    maps = []
    for path in sorted((DATA / "sam3" / "frames").iterdir())[:16]:
        pixels: ByteArray = np.asarray(Image.open(path).convert("RGB"))[:SIZE, :SIZE]
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        maps.append(causal.encoder(image))
    return PointFeatures(*(torch.cat(group) for group in zip(*maps, strict=True)))


def frame(clip: PointFeatures, index: int) -> PointFeatures:
    return PointFeatures(*(maps[index : index + 1] for maps in clip))


def queries_of(model: PointTrackingModel, clip: PointFeatures, queries: np.ndarray) -> PointQueries:
    """The features of queries (frame, y, x)."""
    rows = [model.query_features(frame(clip, int(t)), torch.tensor([[x, y]])) for t, y, x in queries.tolist()]
    return PointQueries(*(torch.cat(group) for group in zip(*rows, strict=True)))


def test_features_equal_the_original(golden: Mapping[str, np.ndarray], clip: PointFeatures) -> None:
    low, high = (maps[0].permute(1, 2, 0).numpy() for maps in clip)
    for level in (0, 1):
        assert np.abs(low[::4, ::4] - golden[f"grid/{level}/lowres"]).max() < 1e-4
        assert np.abs(high[::8, ::8] - golden[f"grid/{level}/hires"]).max() < 1e-4


@torch.inference_mode()
def test_query_features_equal_the_original(
    golden: Mapping[str, np.ndarray], causal: Models, clip: PointFeatures
) -> None:
    queries = queries_of(causal.tracker, clip, golden["queries"][:5])
    assert np.abs(queries.low_res.numpy() - golden["query/lowres"]).max() < 1e-4
    assert np.abs(queries.high_res.numpy() - golden["query/hires"]).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "queries", "first"), [("online", "queries", 0), ("online_late", "queries_late", 5)]
)
@pytest.mark.parametrize("frames_at_once", [1, 4])
@torch.inference_mode()
def test_tracks_equal_the_original(
    golden: Mapping[str, np.ndarray],
    causal: Models,
    clip: PointFeatures,
    kind: str,
    queries: str,
    first: int,
    frames_at_once: int,
) -> None:
    model = causal.tracker
    points = queries_of(model, clip, golden[queries])
    states = model.initial_state(len(points.low_res))
    parts = []
    for start in range(first, 16, frames_at_once):
        frames = PointFeatures(*(maps[start : start + frames_at_once] for maps in clip))
        estimates = model.refine(frames, points, model.initialize(frames, points), states)
        parts.append(estimates[-1])
        if kind == "online" and start == 3 and frames_at_once == 1:
            check_iterations(golden, model.initialize(frames, points), estimates)
    check(golden, kind, joined(parts), frames_first=True)


def check_iterations(
    golden: Mapping[str, np.ndarray], initial: PointEstimate, estimates: list[PointEstimate]
) -> None:
    expected, stable = golden["online/frame3_all_iterations"], golden["online/stable"][3]
    for values, estimate in zip(expected, [initial, *estimates], strict=True):
        assert np.abs(estimate.positions[:, 0].numpy() - values)[stable].max() < 1e-3


@torch.inference_mode()
def test_offline_tracks_equal_the_original(golden: Mapping[str, np.ndarray], clip: PointFeatures) -> None:
    model = models(causal=False).tracker
    queries = np.concatenate([golden["queries"], golden["queries_late"]])
    points = queries_of(model, clip, queries)
    initial = model.initialize(clip, points)
    for row, (t, y, x) in enumerate(queries.tolist()):
        initial.positions[row, int(t)] = torch.tensor([x, y])
    estimates = model.refine(clip, points, initial, None)
    check(golden, "offline", estimates[-1], frames_first=False)


def joined(parts: list[PointEstimate]) -> PointEstimate:
    return PointEstimate(*(torch.cat(group, dim=1) for group in zip(*parts, strict=True)))


def check(golden: Mapping[str, np.ndarray], kind: str, actual: PointEstimate, *, frames_first: bool) -> None:
    stable = golden[f"{kind}/stable"]
    assert stable.mean() > 0.9

    def values(tensor: Tensor) -> np.ndarray:
        return (tensor.transpose(0, 1) if frames_first else tensor).numpy()

    for name, tensor in (("tracks", actual[0]), ("occlusion", actual[1]), ("expected_dist", actual[2])):
        difference = np.abs(values(tensor) - golden[f"{kind}/{name}"])[stable]
        assert difference.max() < 1e-3, (name, difference.max())
