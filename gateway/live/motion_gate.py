"""The motion gate: finds frames of a live stream on which nothing has moved, so that they are not encoded."""

import asyncio
import time

import numpy as np

from gateway.sessions.session import GatewaySession
from maskmesh.errors import MaskmeshError
from maskmesh.masks import ByteArray
from maskmesh.media.pictures import grey_thumbnail
from maskmesh.types import Image

DEFAULT_THRESHOLD = 4.0

# The frame is divided into CELLS x CELLS parts of CELL x CELL thumbnail pixels.  A part is small enough that
# an object of some pixels fills it, and large enough that the noise of a camera averages out.
CELLS = 32
CELL = 8

# A frame is encoded at least this often.  Changes that another gateway made, and motion that stays below the
# threshold, are then seen too.
MAX_STILL_SECONDS = 5.0


class MotionGate:
    """Compares frames with the last encoded one.

    A frame is still if no part of it differs by more than ``threshold`` grey levels on average, and if the
    session's objects were not changed since.
    """

    def __init__(self, session: GatewaySession, threshold: float) -> None:
        self.threshold = threshold
        self._session = session
        self._encoded: ByteArray | None = None
        self._encoded_at = 0.0
        self._num_changes = 0

    def open(self) -> None:
        """Let the next frame through."""
        self._encoded = None

    async def is_still(self, image: Image) -> bool:
        """Whether nothing has moved.  If it has, the frame becomes the one that later frames are compared
        with.
        """
        try:
            grey = await asyncio.to_thread(grey_thumbnail, image, CELLS * CELL, field="frame.image")
        except MaskmeshError:  # the encoder rejects the frame
            self.open()
            return False
        is_current = (
            self._session.num_changes == self._num_changes
            and time.monotonic() - self._encoded_at < MAX_STILL_SECONDS
        )
        if is_current and self._encoded is not None and motion(self._encoded, grey) <= self.threshold:
            return True
        self._encoded, self._encoded_at = grey, time.monotonic()
        self._num_changes = self._session.num_changes
        return False


def motion(before: ByteArray, after: ByteArray) -> float:
    """The largest mean absolute difference of a part of two thumbnails, in grey levels.

    Thumbnails are [CELLS * CELL, CELLS * CELL], uint8.
    """
    difference = np.abs(before.astype(np.int16) - after)
    return float(difference.reshape(CELLS, CELL, CELLS, CELL).mean(axis=(1, 3)).max())
