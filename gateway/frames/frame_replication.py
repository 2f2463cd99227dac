"""Replication of the frames of sessions to the session store, from which any gateway can read them.

:mod:`gateway.frames.upload_replication` copies uploads, :mod:`gateway.frames.ring_replication` live streams.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from maskmesh.storage.session_record import SessionRecord
from maskmesh.types import EncodedImage, Image, RawImage
from maskmesh.v1 import segmentation_pb2


class FrameReplicator:
    """Copies the frames of one session to and from the store.  This class does nothing; it is used without
    a store.
    """

    async def publish(self) -> None:
        """Write all frames to the store.  Raises StoreDown."""

    async def adopt(self, record: SessionRecord) -> None:
        """Read the frames that other gateways have added, and write those that the store lacks.

        Raises StoreDown if they cannot be read.
        """

    @asynccontextmanager
    async def upload_lock(self) -> AsyncIterator[SessionRecord | None]:
        """Exclude uploads at other gateways, and read the frames that those gateways have added.

        Yields the session in the store, None without one.  Raises Conflict if another upload takes too long.
        """
        yield None

    async def replicate_upload(
        self,
        first: int,
        config: segmentation_pb2.AppendFramesConfig,
        response: segmentation_pb2.AppendFramesResponse,
    ) -> None:
        """Write the frames from index ``first`` on, and the response to an upload with a key.

        What cannot be written while the store is down is written later, by :meth:`adopt`.
        """

    async def close(self) -> None:
        """Stop replicating."""


def pack_image(image: Image) -> bytes:
    """An image for the store: ``e`` and its file, or ``r``, width, height (4 bytes, little-endian) and
    pixels.
    """
    if isinstance(image, EncodedImage):
        return b"e" + image.data
    height, width, _ = image.pixels.shape
    size = int(width).to_bytes(4, "little") + int(height).to_bytes(4, "little")
    return b"".join((b"r", size, image.pixels.tobytes()))


def unpack_image(data: bytes) -> Image:
    """The image of :func:`pack_image`."""
    if data[:1] == b"e":
        return EncodedImage(data[1:])
    width, height = (int.from_bytes(data[i : i + 4], "little") for i in (1, 5))
    return RawImage(np.frombuffer(data, np.uint8, offset=9).reshape(height, width, 3))
