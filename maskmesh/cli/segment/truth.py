"""True masks of a clip, in the format of ``maskmesh segment --masks``, and the comparison with them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from maskmesh.masks import RleMask
from maskmesh.types import FrameMasks

TrueMasks = Mapping[int, Mapping[int, RleMask]]
"""Masks by frame and object; the mask of an object that is not visible is empty or missing."""


@dataclass(slots=True)
class Fit:
    """Comparison of one object's masks with the true ones over a clip."""

    ious: list[float]  # on the frames that show the object
    right: int  # frames without the object on which the object score is below zero
    out_of_sight: int


def read_truth(path: Path) -> TrueMasks:
    """Read a file of masks.  Raises ValueError if it is malformed, naming the frame and the object."""
    location = ""
    try:
        truth: dict[int, dict[int, RleMask]] = {}
        for frame in json.loads(path.read_text())["frames"]:
            objects = truth.setdefault(int(frame["frame_index"]), {})
            for entry in frame["objects"]:
                location = f" (frame {frame['frame_index']}, object {entry['obj_id']})"
                mask = RleMask.from_coco(entry["segmentation"])
                mask.decode()
                objects[int(entry["obj_id"])] = mask
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}{location} is not a file of masks: {error!r}") from error
    return truth


def fit(frames: Sequence[FrameMasks], truth: TrueMasks) -> dict[int, Fit]:
    """Compare masks with the true ones, by object.

    Raises ValueError if the true masks lack a frame or have another size.
    """
    fits: dict[int, Fit] = {}
    for frame in frames:
        if frame.frame_index not in truth:
            raise ValueError(f"the true masks have no frame {frame.frame_index}")
        for obj_id, result in frame.objects.items():
            fitted = fits.setdefault(obj_id, Fit([], 0, 0))
            true = truth[frame.frame_index].get(obj_id)
            mask = None if true is None else true.decode()
            if mask is None or not mask.any():
                fitted.out_of_sight += 1
                fitted.right += result.object_score_logit < 0
                continue
            assert isinstance(result.mask, RleMask), "the command requests COCO RLE"
            predicted = result.mask.decode()
            if predicted.shape != mask.shape:
                raise ValueError(f"the true masks are {mask.shape[1]} x {mask.shape[0]} pixels")
            fitted.ious.append(np.count_nonzero(predicted & mask) / np.count_nonzero(predicted | mask))
    return fits


def compare(frames: Sequence[FrameMasks], truth: TrueMasks) -> Iterator[str]:
    """One line of text for each object.  Raises the errors of :func:`fit`."""
    for obj_id, fitted in fit(frames, truth).items():
        line = f"object {obj_id}: "
        if fitted.ious:
            line += f"mean IoU {fmean(fitted.ious):.3f} on the {len(fitted.ious)} frames that show it"
        if fitted.out_of_sight:
            line += f"; reported out of sight on {fitted.right} of {fitted.out_of_sight} that do not"
        yield line
