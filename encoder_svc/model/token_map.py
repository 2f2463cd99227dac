"""Feature maps as tokens, and the order of the tokens in memory."""

from typing import NamedTuple, Self

import torch.nn.functional as F
from torch import Tensor


class TokenMap(NamedTuple):
    """A map of B x ``height`` x ``width`` tokens.

    Tokens are stored row by row, or window by window if the map is cut.  Operations on single tokens or
    within windows work with both orders, so a map is reordered only if the window size changes.
    """

    tokens: Tensor  # [B, height, width, C], or cut: [B * windows, window, window, C]
    height: int
    width: int
    window: int = 0
    """Side of the windows in tokens; 0 if the map is not cut."""

    def fits(self, window: int) -> bool:
        """Whether windows of a size cover the map without padding."""
        return self.height % window == 0 and self.width % window == 0

    def cut(self, window: int) -> Self:
        """Returns the map cut into windows of size ``window``, which must fit; 0 undoes the cut."""
        if window == self.window:
            return self
        tokens = self.tokens
        if self.window:
            tokens = merge_windows(tokens, self.height, self.width)
        if window:
            tokens = partition_windows(tokens, window)
        return self._replace(tokens=tokens, window=window)


def partition_windows(x: Tensor, window: int) -> Tensor:
    """Cut x: [B, H, W, C] into [B * windows, window, window, C], padding below and right with zeros."""
    height, width = x.shape[1:3]
    pad_height, pad_width = -height % window, -width % window
    if pad_height or pad_width:
        x = F.pad(x, (0, 0, 0, pad_width, 0, pad_height))
    grid: Tensor = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return grid.transpose(2, 3).reshape(-1, window, window, x.shape[-1])


def merge_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`partition_windows`: returns [B, height, width, C] with the padding cut off."""
    window, channels = windows.shape[-2:]
    rows, columns = -(-height // window), -(-width // window)
    grid = windows.view(-1, rows, columns, window, window, channels).transpose(2, 3)
    padded = grid.reshape(-1, rows * window, columns * window, channels)
    return padded[:, :height, :width].contiguous()
