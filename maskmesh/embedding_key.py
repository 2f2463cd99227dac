"""The key of an embedding, the same in every cache: tenant, model and content of the image."""

import hashlib
from typing import NamedTuple, Self

import numpy as np

from maskmesh.types import EmbeddingRef, EncodedImage, Image


class EmbeddingKey(NamedTuple):
    """The key of an embedding.  ``digest`` is that of :func:`image_digest`."""

    tenant: str
    model_id: str
    digest: str

    @classmethod
    def of(cls, ref: EmbeddingRef) -> Self:
        """The key of the embedding behind a reference."""
        return cls(ref.tenant, ref.model_id, ref.key)


def image_digest(image: Image) -> str:
    """The digest of an image's content, ``sha256:`` and hexadecimal digits: of the file, or of size and
    pixels.
    """
    digest = hashlib.sha256()
    if isinstance(image, EncodedImage):
        digest.update(image.data)
    else:
        height, width, _ = image.pixels.shape
        digest.update(f"{width} x {height}".encode())
        digest.update(np.ascontiguousarray(image.pixels).data)
    return f"sha256:{digest.hexdigest()}"
