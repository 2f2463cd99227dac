"""Write the keys and shapes of the whole checkpoint of every preset, which the services validate against.

    python tools/write_checkpoint_keys.py [OUT]

Builds both parts of the model on the meta device, which allocates no memory.  Run it after a model changes.
"""

import json
import sys
from pathlib import Path

import torch

from encoder_svc.model import config as encoder_config
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.point_backbone import PointEncoder
from tracker_svc.model import config as tracker_config
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.tracking_model import TrackingModel
from tracker_svc.points.config import POINT_PRESETS
from tracker_svc.points.tapir import PointTrackingModel

OUT = Path(__file__).parent.parent / "maskmesh" / "nn" / "checkpoint_keys"


def checkpoint_keys(preset: str) -> dict[str, list[int]]:
    """All keys and shapes of the whole model."""
    with torch.device("meta"):
        encoder = encoder_weights.make_model(encoder_config.PRESETS[preset])
        tracker = TrackingModel(tracker_config.PRESETS[preset])
    whole = encoder_weights.to_checkpoint_keys(encoder.state_dict())
    whole |= tracker_weights.to_checkpoint_keys(tracker.state_dict())
    shapes = {key: list(value.shape) for key, value in whole.items()}
    if (detector := tracker_config.PRESETS[preset].detector) is not None:
        shapes |= {key: list(shape) for key, shape in tracker_weights.unread_keys(detector).items()}
    return {key: shapes[key] for key in sorted(shapes)}


def point_keys(preset: str) -> dict[str, list[int]]:
    """All keys and shapes of a model for points."""
    config = encoder_config.POINT_PRESETS[preset]
    assert isinstance(config, encoder_config.PointBackboneConfig), "the model has weights"
    with torch.device("meta"):
        parts = PointEncoder(config), PointTrackingModel(POINT_PRESETS[preset])
    shapes = {key: list(value.shape) for part in parts for key, value in part.state_dict().items()}
    return {key: shapes[key] for key in sorted(shapes)}


def write(out: Path) -> None:
    """Write one file for each preset."""
    out.mkdir(parents=True, exist_ok=True)
    keys = {preset: checkpoint_keys(preset) for preset in encoder_config.PRESETS}
    for preset, shapes in (keys | {preset: point_keys(preset) for preset in POINT_PRESETS}).items():
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in shapes.items()]
        (out / f"{preset}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
