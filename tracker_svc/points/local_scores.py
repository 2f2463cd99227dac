"""Features at positions, and the similarity of points with the surroundings of positions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(features: Tensor, positions: Tensor) -> Tensor:
    """The features of one frame at N positions, bilinear; beyond the edge, those of the edge.

    features: [1, C, H, W]; positions: [N, 2], x before y, 0 to 1 over the frame.  Returns [N, C].
    """
    grid = (2 * positions - 1)[None, None]
    sampled = F.grid_sample(
        features.float(), grid.float(), mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].T.to(features.dtype)


def local_scores(features: Tensor, points: Tensor, positions: Tensor, size: int) -> Tensor:
    """The similarity of points with the features in a square of ``size`` cells around positions.

    features: [T, C, H, W].  points: [N, T, C].  positions: [N, T, 2], x before y, 0 to 1 over the frame.
    Returns [N, T, size * size] in float32, in row order; outside the frame, features are 0.

    The similarity is linear in the features.  So it is computed for whole cells, by one matrix product, and
    then interpolated: for 7 x 7 cells, that reads a tenth of what the interpolation of features reads.
    """
    height, width = features.shape[2:]
    cells = torch.bmm(points.transpose(0, 1), features.flatten(2))  # [T, N, H * W]
    centre = positions.transpose(0, 1) * positions.new_tensor([width, height]) - 0.5
    corner = centre.floor()
    fraction = (centre - corner)[..., None, None, :]
    offsets = torch.arange(size + 1, device=cells.device) - size // 2
    xs = corner[..., 0, None].long() + offsets  # [T, N, size + 1]
    ys = corner[..., 1, None].long() + offsets
    is_inside = ((ys >= 0) & (ys < height))[..., :, None] & ((xs >= 0) & (xs < width))[..., None, :]
    index = ys.clamp(0, height - 1)[..., :, None] * width + xs.clamp(0, width - 1)[..., None, :]
    scores = cells.gather(2, index.flatten(2)).float().unflatten(-1, (size + 1, size + 1)) * is_inside
    x, y = fraction[..., 0], fraction[..., 1]
    rows = scores[..., :-1, :] * (1 - y) + scores[..., 1:, :] * y
    patch: Tensor = rows[..., :-1] * (1 - x) + rows[..., 1:] * x
    return patch.flatten(-2).transpose(0, 1)
