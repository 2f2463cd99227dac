"""Encodes an image and returns a reference to its embedding."""

from gateway.backends.encoders import Encoded, EncodeOptions, Encoders, on_thread_if_large
from maskmesh.embedding_key import image_digest
from maskmesh.errors import UNREACHABLE, EmbeddingNotFound, Unavailable
from maskmesh.types import Image

# Maximum number of attempts of a call whose embedding is evicted before the tracker has fetched it.
MAX_ATTEMPTS = 3


async def digest_of(image: Image) -> str:
    """The digest of an image, computed on a thread if the image is large."""
    return await on_thread_if_large(image, image_digest, image)


async def encode_image(encoders: Encoders, image: Image, options: EncodeOptions) -> Encoded:
    """Encode an image that belongs to no session."""
    return await encoders.encode(image, await digest_of(image), options)


def raise_after_last(attempt: int, error: EmbeddingNotFound) -> None:
    """Raise if ``attempt``, counted from 0, was the last one: Unavailable if the tracker cannot reach the
    encoder.
    """
    if attempt < MAX_ATTEMPTS - 1:
        return
    if UNREACHABLE in error.metadata:
        raise Unavailable("the tracker cannot reach the encoder", service="encoder") from error
    raise error
