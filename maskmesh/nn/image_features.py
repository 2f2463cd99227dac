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


class PointFeatures(NamedTuple):
    """The embeddings of TAPIR, from which trackers compute where points are.

    Features have length 1.  S is the side of the input in pixels; TAPIR has C = 256 and D = 128.
    """

    point_features: Tensor  # [B, C, S / 8, S / 8]
    high_res_point_features: Tensor  # [B, D, S / 4, S / 4]


class GreyFeatures(NamedTuple):
    """Pictures in grey, from which Lucas-Kanade computes where points have moved."""

    grey: Tensor  # [B, 1, S, S], integers from 0 to 255


ImageEmbedding: TypeAlias = ImageFeatures | TrunkFeatures | PointFeatures | GreyFeatures


def embedding_from_tensors(tensors: Mapping[str, Tensor]) -> ImageEmbedding:
    """The embedding with these tensors.  Raises TypeError if they belong to no kind of embedding."""
    for kind in (TrunkFeatures, PointFeatures, GreyFeatures):
        if kind._fields[0] in tensors:
            return kind(**tensors)
    return ImageFeatures(**tensors)
