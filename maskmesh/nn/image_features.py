"""The embedding of an image: what the encoder service computes and the tracker service reads."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor


class ImageFeatures(NamedTuple):
    """What the tracking stages read of B images: the embeddings of SAM 2.1.

    C is the width (256 in SAM 2.1 and SAM 3), E the side of the grid: S / 16 for images of S x S in SAM 2.1,
    S / 14 in SAM 3.
    """

    image_embedding: Tensor  # [B, C, E, E]
    high_res_features_s4: Tensor  # [B, C / 8, 4 E, 4 E]
    high_res_features_s8: Tensor  # [B, C / 4, 2 E, 2 E]

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


class TrunkFeatures(NamedTuple):
    """The embeddings of SAM 3: the map of the trunk, from which trackers compute what each stage reads."""

    trunk_map: Tensor  # [B, C, E, E], 1024 x 72 x 72 for an image of 1008 x 1008


ImageEmbedding: TypeAlias = ImageFeatures | TrunkFeatures


def embedding_from_tensors(tensors: Mapping[str, Tensor]) -> ImageEmbedding:
    """The embedding with these tensors.  Raises TypeError if they belong to no kind of embedding."""
    return TrunkFeatures(**tensors) if "trunk_map" in tensors else ImageFeatures(**tensors)
