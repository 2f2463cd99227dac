"""A mesh with the golden weights of a small SAM 3, whose concepts have objects that come and go."""

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.masks import ByteArray
from tests.golden_sam3 import PRESET, SAM3, official_state
from tracker_svc.compute.tokenizer import _byte_symbols
from tracker_svc.model.config import PRESETS

# A phrase whose objects come and go on the golden frames.
PHRASE = "person"


def golden_options(folder: Path, *, trackers: int = 1) -> MeshOptions:
    """The options of a mesh with the golden weights, whose files are written to ``folder``."""
    checkpoint, vocabulary = folder / "golden.pt", folder / "merges.txt"
    torch.save(official_state(), checkpoint)
    # The words of the real vocabulary do not matter, their number does.
    detector = PRESETS[PRESET].detector
    assert detector is not None
    symbols = _byte_symbols()
    pairs = itertools.islice(itertools.product(symbols, repeat=2), detector.vocabulary - 2 * len(symbols) - 2)
    vocabulary.write_text("\n".join(["#version", *(f"{first} {second}" for first, second in pairs)]))
    return MeshOptions(model=PRESET, checkpoint=checkpoint, vocabulary=vocabulary, trackers=trackers)


@cache
def golden_frames() -> list[ByteArray]:
    """The frames of the golden clip: 16 of 336 x 336 pixels."""
    return [np.array(Image.open(SAM3 / "frames" / f"{i:05}.png").convert("RGB")) for i in range(16)]
