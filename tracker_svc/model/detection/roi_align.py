"""Region-of-interest alignment: samples a map on a regular grid inside boxes.

Source: He et al., "Mask R-CNN" (2017).  Coordinates are those of the first form of the operation, in which
cell centres are whole numbers; the number of samples adapts to the size of the box.
"""

import math

import torch
from torch import Tensor


def roi_align(image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """image: [C, H, W]; boxes: [N, 4], x0, y0, x1, y1 in cells of the map, float32.

    Returns [N, C, size, size] in the type of the image: the mean of bilinear samples in each part of a box.
    A box counts as at least one cell wide and high.
    """
    rows = []
    for box in boxes.tolist():
        x0, y0, x1, y1 = box
        columns, column_weights = _samples(x0, max(x1 - x0, 1.0), size, image.shape[2])
        lines, line_weights = _samples(y0, max(y1 - y0, 1.0), size, image.shape[1])
        along_y = _averaging(lines, line_weights, image.shape[1], image.device)
        along_x = _averaging(columns, column_weights, image.shape[2], image.device)
        rows.append(torch.einsum("ph,chw,qw->cpq", along_y, image.float(), along_x))
    return torch.stack(rows).to(image.dtype)


def _samples(start: float, length: float, size: int, limit: int) -> tuple[list[list[float]], float]:
    """The sample positions of each of ``size`` parts, and the weight of one sample.

    Positions more than one cell outside the map are left out; they count as zeros.
    """
    part = length / size
    count = max(math.ceil(part), 1)
    positions = [
        [start + index * part + (sample + 0.5) * part / count for sample in range(count)]
        for index in range(size)
    ]
    return [[p for p in row if -1.0 <= p <= limit] for row in positions], 1.0 / count


def _averaging(positions: list[list[float]], weight: float, cells: int, device: torch.device) -> Tensor:
    """The matrix [size, cells] that interpolates at the positions of each part and averages them."""
    matrix = torch.zeros(len(positions), cells)
    for index, row in enumerate(positions):
        for position in row:
            place = min(max(position, 0.0), cells - 1.0)
            lower = int(place)
            share = place - lower
            matrix[index, lower] += weight * (1.0 - share)
            if share:
                matrix[index, lower + 1] += weight * share
    return matrix.to(device)
