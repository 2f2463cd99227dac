"""True masks beside a clip, in the form that ``maskmesh segment --masks`` writes, and a comparison."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from maskmesh.masks import RleMask
from maskmesh.types import FrameMasks

TrueMasks = Mapping[int, Mapping[int, RleMask]]
"""By frame and object; an empty mask, or none, where an object is out of sight."""


@dataclass(slots=True)
class Fit:
    """How one object's masks fit over a clip."""

    ious: list[float]  # of the frames that show the object
    right: int  # frames out of sight on which the object score is below zero
    out_of_sight: int


def read_truth(path: Path) -> TrueMasks:
    """Read a file of masks.  Raises ValueError naming what in it has another form."""
    place = ""
    try:
        truth: dict[int, dict[int, RleMask]] = {}
        for frame in json.loads(path.read_text())["frames"]:
            objects = truth.setdefault(int(frame["frame_index"]), {})
            for found in frame["objects"]:
                place = f" (frame {frame['frame_index']}, object {found['obj_id']})"
                mask = RleMask.from_coco(found["segmentation"])
                mask.decode()
                objects[int(found["obj_id"])] = mask
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}{place} is not a file of masks: {error!r}") from error
    return truth


def fit(frames: Sequence[FrameMasks], truth: TrueMasks) -> dict[int, Fit]:
    """Compare what was found with the truth, by object.

    Raises ValueError for a frame that the truth does not have, or masks of another size.
    """
    fits: dict[int, Fit] = {}
    for frame in frames:
        if frame.frame_index not in truth:
            raise ValueError(f"the true masks have no frame {frame.frame_index}")
        for obj_id, found in frame.objects.items():
            fitted = fits.setdefault(obj_id, Fit([], 0, 0))
            true = truth[frame.frame_index].get(obj_id)
            mask = None if true is None else true.decode()
            if mask is None or not mask.any():
                fitted.out_of_sight += 1
                fitted.right += found.object_score_logit < 0
                continue
            assert isinstance(found.mask, RleMask), "the command asks for COCO RLE"
            ours = found.mask.decode()
            if ours.shape != mask.shape:
                raise ValueError(f"the true masks are {mask.shape[1]} x {mask.shape[0]} pixels")
            fitted.ious.append(np.count_nonzero(ours & mask) / np.count_nonzero(ours | mask))
    return fits


def compare(frames: Sequence[FrameMasks], truth: TrueMasks) -> Iterator[str]:
    """One line for each object; errors as in :func:`fit`."""
    for obj_id, fitted in fit(frames, truth).items():
        line = f"object {obj_id}: "
        if fitted.ious:
            line += f"mean IoU {fmean(fitted.ious):.3f} on the {len(fitted.ious)} frames that show it"
        if fitted.out_of_sight:
            line += f"; reported out of sight on {fitted.right} of {fitted.out_of_sight} that do not"
        yield line
