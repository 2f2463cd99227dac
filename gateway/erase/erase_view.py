"""Erases objects from the frames of a stream, on threads of its own."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from gateway.erase.eraser import Erased, Eraser
from gateway.erase.fill import Filler, NeighbourFiller, box_around
from gateway.erase.options import EraseOptions
from gateway.erase.sampling import MAX_SIDE
from maskmesh import telemetry, wire
from maskmesh.errors import InvalidRequest, ResourceExhausted
from maskmesh.masks import BoolArray, ByteArray, LowResLogits
from maskmesh.media.pictures import NO_LIMIT, decode_picture
from maskmesh.telemetry import StageRecorder
from maskmesh.types import EncodedImage, Image, RawImage
from maskmesh.v1 import erase_pb2, types_pb2

JPEG_QUALITY = 95


class Erasers:
    """The threads that erase, and the limit of streams that erase at once: each keeps frames in memory."""

    def __init__(self, num_threads: int, max_streams: int, model_filler: Filler | None = None) -> None:
        self._pool = ThreadPoolExecutor(num_threads, "erase")
        # For the whole process, which uses OpenCV for erasing only: a stream takes one core.
        cv2.setNumThreads(1)
        self._max_streams = max_streams
        self._sessions: Counter[str] = Counter()
        self._model_filler = model_filler
        self._seen: set[str] = set()

    @contextmanager
    def view(self, options: EraseOptions, session_id: str, *, field: str) -> Iterator["EraseView"]:
        """A view for one stream of a session.  Raises ResourceExhausted, InvalidRequest.

        A session counts once: a stream that resumes another one finds it still open.
        """
        if options.fill == erase_pb2.ERASE_FILL_MODEL and self._model_filler is None:
            raise InvalidRequest(
                "this server has no inpainting model: --erase-model sets one", field=f"{field}.fill"
            )
        if session_id not in self._sessions and len(self._sessions) >= self._max_streams:
            raise ResourceExhausted(
                f"objects of {len(self._sessions)} sessions are erased, which is the limit",
                resource="erasers",
            )
        filler: Filler = NeighbourFiller()
        if self._model_filler is not None and options.fill != erase_pb2.ERASE_FILL_NEIGHBOURS:
            filler = self._model_filler
        self._sessions[session_id] += 1
        try:
            yield EraseView(options, field, Eraser(options.eraser, filler), self._pool, self._seen)
        finally:
            self._sessions[session_id] -= 1
            self._sessions += Counter()  # drops those without a stream

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class EraseView:
    """The frames of one stream without the objects."""

    options: EraseOptions
    request_field: str
    """The field of the request that requests erasing."""
    _eraser: Eraser
    _pool: ThreadPoolExecutor
    _seen: set[str] = field(repr=False)

    def recorder(self) -> StageRecorder:
        """A recorder of the stages of one frame."""
        return StageRecorder(seen=self._seen)

    async def push(
        self, image: Image, masks: types_pb2.FrameMasks, recorder: StageRecorder
    ) -> erase_pb2.ErasedImage | None:
        """Add the next frame with its binary masks.

        Returns the frame that is ``look_ahead`` frames behind, None for the first ones.  Raises InvalidImage.
        """
        ready_ns = time.time_ns()

        def run() -> erase_pb2.ErasedImage | None:
            recorder.wait(ready_ns, time.time_ns(), "erase_thread")
            with recorder.stage(telemetry.DECODE_IMAGE):
                pixels = _pixels(image)
            if max(pixels.shape[:2]) > MAX_SIDE:
                raise InvalidRequest(
                    f"objects are erased from frames of at most {MAX_SIDE} pixels a side",
                    field=self.request_field,
                )
            with recorder.stage(telemetry.ERASE_COMPOSE):
                hole = self._hole(masks, pixels)
            erased = self._eraser.push(pixels, hole, recorder)
            return None if erased is None else self._message(erased)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    async def pop(self) -> erase_pb2.ErasedImage:
        """The next frame after the last one was added; there must be one."""

        def run() -> erase_pb2.ErasedImage:
            erased = self._eraser.pop()
            assert erased is not None, "a frame is left for each call"
            return self._message(erased)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    def _hole(self, masks: types_pb2.FrameMasks, pixels: ByteArray) -> BoolArray:
        """The pixels to erase: the union of the masks, grown."""
        height, width = pixels.shape[:2]
        union = np.zeros((height, width), np.bool_)
        for message in masks.objects:
            if not self.options.obj_ids or message.obj_id in self.options.obj_ids:
                mask = wire.mask_from_proto(message.mask)
                assert not isinstance(mask, LowResLogits), "the options of masks are checked"
                union |= mask.decode()
        dilation = self.options.dilation_for(height, width)
        if not dilation or not union.any():
            return union
        # The distance from the masks, which takes the same time for every width.
        rows, columns = box_around(union, dilation + 1)
        part = np.logical_not(union[rows, columns]).astype(np.uint8)
        union[rows, columns] = cv2.distanceTransform(part, cv2.DIST_L2, 5) <= dilation
        return union

    def _message(self, erased: Erased) -> erase_pb2.ErasedImage:
        with erased.recorder.stage(telemetry.ENCODE_IMAGE):
            return erase_pb2.ErasedImage(
                image=wire.image_to_proto(_encoded(erased.pixels, self.options.format)),
                propagated_pixels=erased.num_propagated,
                invented_pixels=erased.num_invented,
            )


def _pixels(image: Image) -> ByteArray:
    if isinstance(image, RawImage):
        return image.pixels
    return decode_picture(image.data, NO_LIMIT, field="frame_index")


def _encoded(pixels: ByteArray, image_format: erase_pb2.ImageFormat) -> Image:
    if image_format == erase_pb2.IMAGE_FORMAT_RAW:
        return RawImage(pixels)
    name = ".png" if image_format == erase_pb2.IMAGE_FORMAT_PNG else ".jpg"
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if name == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    is_done, data = cv2.imencode(name, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)
    assert is_done, "sides are limited"
    return EncodedImage(data.tobytes())
