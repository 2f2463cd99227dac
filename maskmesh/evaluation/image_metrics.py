"""How near filled holes are to the truth, and how much they flicker."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from skimage.metrics import structural_similarity

from maskmesh.masks import BoolArray, ByteArray

# PSNR of holes without any error, which have none.
MAX_PSNR = 100.0


def hole_psnr(found: ByteArray, true: ByteArray, hole: BoolArray) -> float:
    """Peak signal-to-noise ratio inside a hole, in dB.  Images are [H, W, 3], the hole is [H, W]."""
    error = float(np.mean((found[hole].astype(np.float64) - true[hole]) ** 2))
    return min(10 * math.log10(255**2 / error), MAX_PSNR) if error else MAX_PSNR


def hole_ssim(found: ByteArray, true: ByteArray, hole: BoolArray) -> float:
    """Mean structural similarity inside a hole, -1 to 1, in windows of 7 x 7.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004.
    """
    _, similarity = structural_similarity(found, true, channel_axis=2, full=True)
    return float(similarity[hole].mean())


def warping_error(found: Sequence[ByteArray], true: Sequence[ByteArray], holes: Sequence[BoolArray]) -> float:
    """Flicker: how much frames differ inside their holes from the frames before, moved by the true flow.

    In levels, averaged over frames.  Source: Lai et al., "Learning Blind Video Temporal Consistency", 2018,
    with absolute differences; the flow is DIS of the true frames.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = holes[0].shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    errors = []
    for index in range(1, len(found)):
        if not holes[index].any():
            continue
        now, before = (cv2.cvtColor(true[i], cv2.COLOR_RGB2GRAY) for i in (index, index - 1))
        flow = dis.calc(now, before, np.zeros((height, width, 2), np.float32))
        x, y = (columns + flow[..., 0]).astype(np.float32), (rows + flow[..., 1]).astype(np.float32)
        moved = cv2.remap(found[index - 1], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = np.abs(found[index].astype(np.float32) - moved)
        errors.append(float(difference[holes[index]].mean()))
    return float(np.mean(errors)) if errors else 0.0


def filled_alone(pixels: ByteArray, hole: BoolArray) -> ByteArray:
    """A frame whose hole is filled from its own edge by Telea's method, to compare with."""
    return np.asarray(cv2.inpaint(pixels, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA), np.uint8)
