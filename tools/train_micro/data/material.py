"""All material of a training run, split into what trains and what is held out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tools.train_micro.data.real_clips import RealClip, load_clips
from tools.train_micro.data.sources import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    Source,
    load_sets,
    load_sources,
)


@dataclass(frozen=True, slots=True)
class Material:
    """The images and clips of a run."""

    training: list[Source]
    held_out: list[Source]
    clips: list[RealClip]
    held_out_clips: list[RealClip]

    @classmethod
    def read(cls, ecssd: Path, sets: Path | None, *, only_open: bool = False) -> Self:
        """Read the images of ECSSD and of the other sets, if their folder is given.

        ``only_open`` trains on open sets only; validation uses all.  Raises FileNotFoundError for the first
        missing file, ValueError if no image remains.
        """
        training = [] if only_open else load_sources(ecssd, TRAINING_NAMES)
        held_out = load_sources(ecssd, VALIDATION_NAMES)
        clips: list[RealClip] = []
        held_out_clips: list[RealClip] = []
        if sets is not None:
            clips = load_clips(sets, held_out=False, only_open=only_open)
            held_out_clips = load_clips(sets, held_out=True)
            training += load_sets(sets, held_out=False, only_open=only_open)
            held_out += load_sets(sets, held_out=True)
        if not training:
            raise ValueError("the open recipe needs the folder of the sets")
        return cls(training, held_out, clips, held_out_clips)
