"""The rate of matrix products of this machine."""

import statistics
import time

import torch

SIDE = 4096
REPEATS = 5

# One tracked frame of sam2.1-tiny at 1024 with seven memories of one object: image encoder 205, attention
# products of memory attention 370 (values are summed before they are projected), its projections 55, mask
# decoder 4, memory encoder 12.
GFLOP_PER_FRAME = 645


def matrix_rate(dtype: torch.dtype) -> float:
    """The median rate of products of square matrices, in floating-point operations per second."""
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    out = torch.empty(SIDE, SIDE, dtype=dtype)
    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            torch.mm(left, right, out=out)
            seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / statistics.median(seconds[1:])
