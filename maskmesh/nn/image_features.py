"""The embedding of an image: what the encoder service computes and the tracker service reads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class ImageFeatures(NamedTuple):
    """Embeddings of B images, for images of S x S and a width of C (256 in SAM 2.1)."""

    image_embedding: Tensor  # [B, C, S / 16, S / 16]
    high_res_features_s4: Tensor  # [B, C / 8, S / 4, S / 4]
    high_res_features_s8: Tensor  # [B, C / 4, S / 8, S / 8]

    @property
    def high_res_features(self) -> tuple[Tensor, Tensor]:
        """The two finer maps, the finest first."""
        return self.high_res_features_s4, self.high_res_features_s8

    @classmethod
    def stack(cls, images: "Sequence[ImageFeatures]") -> "ImageFeatures":
        """The embeddings of several images as one batch; a single one as it is."""
        if len(images) == 1:
            return images[0]
        return cls(*(torch.cat(maps) for maps in zip(*images, strict=True)))

    def rows(self, indices: Sequence[int]) -> "ImageFeatures":
        """The image of each row of a batch; a single image is broadcast to all rows."""
        if len(self.image_embedding) == 1:
            return self
        return ImageFeatures(*(maps[indices] for maps in self))
