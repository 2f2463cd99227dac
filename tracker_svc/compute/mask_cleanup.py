"""Removal of small holes and specks from masks that are shown."""

import numpy as np
from scipy import ndimage

from maskmesh.masks import BoolArray


def clean(mask: BoolArray, *, fill_holes_area: int, remove_specks_area: int) -> BoolArray:
    """Fill holes and remove separate parts of up to so many pixels; the largest part always stays.

    mask: [H, W], bool.  Parts are joined over corners, holes are not.
    """
    if fill_holes_area:
        # What touches the border is no hole.
        labels, count = ndimage.label(~np.pad(mask, 1))
        areas = np.bincount(labels.ravel(), minlength=count + 1)
        is_hole = areas <= fill_holes_area
        is_hole[[0, labels[0, 0]]] = False
        mask = mask | is_hole[labels[1:-1, 1:-1]]
    if remove_specks_area:
        labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=bool))
        if count > 1:
            areas = np.bincount(labels.ravel(), minlength=count + 1)
            areas[0] = 0
            is_kept = areas > remove_specks_area
            is_kept[areas.argmax()] = True
            is_kept[0] = False
            mask = is_kept[labels]
    return mask
