"""Filmed clips with the masks of their objects on every frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskmesh.masks import ByteArray
from tools.train_micro.data.sources import read_ids, read_picture, resized, resized_ids

# Clips that are held out for validation.
VALIDATION_CLIPS = ("bus", "dance-jump", "horsejump-low", "mallard-water")

# Clips under terms of their own, or without any: the open recipe leaves them out.
CLIPS_WITH_OTHER_TERMS = ("penguins", "tabletop")

# Frames are stored as squares of this side, a little more than the input of the model.
CLIP_SIZE = 288


@dataclass(frozen=True, slots=True)
class RealClip:
    """The frames of a clip and the ids of its objects, 0 for none."""

    name: str
    frames: ByteArray  # [T, CLIP_SIZE, CLIP_SIZE, 3], RGB
    labels: ByteArray  # [T, CLIP_SIZE, CLIP_SIZE]

    def promptable(self, frame: int, min_pixels: int) -> list[int]:
        """The ids of the objects of which a frame shows enough."""
        counts = np.bincount(self.labels[frame].ravel())
        return [label for label in range(1, len(counts)) if counts[label] >= min_pixels]


def load_clips(root: Path, *, held_out: bool, only_open: bool = False) -> list[RealClip]:
    """Read the training or the held-out clips in ``root/clips``, made square.

    Raises FileNotFoundError for the first missing file.
    """
    clips = []
    for folder in sorted((root / "clips").iterdir()):
        if (folder.name in VALIDATION_CLIPS) != held_out:
            continue
        if only_open and folder.name in CLIPS_WITH_OTHER_TERMS:
            continue
        paths = sorted((folder / "frames").iterdir())
        frames = [resized(read_picture(path), CLIP_SIZE) for path in paths]
        labels = [resized_ids(read_ids(folder / "masks" / f"{path.stem}.png"), CLIP_SIZE) for path in paths]
        clips.append(RealClip(folder.name, np.stack(frames), np.stack(labels)))
    return clips
