"""An inpainting model of the user's, as an ONNX file, for what no frame has shown."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gateway.erase.fill import GREY, Filler, box_around, known_means
from maskmesh.masks import BoolArray, ByteArray

# The side at which a model of any size runs, and what sides must be multiples of.
SIDE = 512

# Known pixels around the part that is filled, as a share of its sides.
CONTEXT = 0.5
MIN_CONTEXT = 32


class ModelFiller(Filler):
    """Fills by a model with one of three interfaces:

    - two inputs of float, image [1, 3, H, W] and mask [1, 1, H, W], 0 to 1, where a mask of 1 is unknown, as
      LaMa is exported;
    - the same of uint8, 0 to 255, where a mask of 255 is known, as MI-GAN is exported;
    - one input of float [1, 4, H, W]: the image without its unknown part, and the mask.

    The output is [1, 3, H, W], uint8, or float in the range of 0 to 1 or 0 to 255, which a trial tells.
    """

    def __init__(self, path: Path) -> None:
        """Raises ValueError if the model cannot be used, ImportError without onnxruntime."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ValueError(f"{path} is no ONNX model that can be used: {error}") from error
        inputs = self._session.get_inputs()
        channels = [_dimension(i.shape, 1) for i in inputs]
        if channels == [4]:
            self._image, self._mask = inputs[0], None
        elif sorted(c or 0 for c in channels) == [1, 3]:
            self._image, self._mask = sorted(inputs, key=lambda i: -(_dimension(i.shape, 1) or 0))
        else:
            raise ValueError(
                f"{path}: inputs are {[(i.name, i.shape) for i in inputs]}, not an image of 3 channels and a "
                "mask of 1, or both in 4 channels"
            )
        self._is_bytes = self._image.type == "tensor(uint8)"
        self._height = _dimension(self._image.shape, 2) or SIDE
        self._width = _dimension(self._image.shape, 3) or SIDE
        self._scale = 1.0
        white = np.full((self._height, self._width, 3), 255, np.uint8)
        hole = np.zeros(white.shape[:2], np.bool_)
        hole[: self._height // 2] = True
        try:
            trial = self._run(white, hole)[self._height // 2 :]
        except Exception as error:
            raise ValueError(f"{path} cannot fill a trial picture: {error}") from error
        if not self._is_bytes and trial.mean() < 4:
            self._scale = 255.0

    def fill(self, pixels: ByteArray, unknown: BoolArray) -> ByteArray:
        tight = box_around(unknown, 0)
        sides = [part.stop - part.start for part in tight]
        rows, columns = box_around(unknown, max(round(max(sides) * CONTEXT), MIN_CONTEXT))
        hole = unknown[rows, columns]
        small, small_hole = known_means(pixels[rows, columns], hole, (self._width, self._height))
        filled = np.nan_to_num(self._run(small, small_hole), nan=GREY)
        large = cv2.resize(filled, hole.shape[::-1], interpolation=cv2.INTER_CUBIC)
        out = pixels.copy()
        out[rows, columns][hole] = large.clip(0, 255)[hole].astype(np.uint8)
        return out

    def _run(self, pixels: ByteArray, hole: BoolArray) -> NDArray[np.float32]:
        """The model's picture in its own size, [H, W, 3]."""
        image = pixels.transpose(2, 0, 1)[None]
        mask = hole[None, None]
        feeds: dict[str, Any]
        if self._mask is None:
            known = np.where(mask, 0, image / np.float32(255)).astype(np.float32)
            feeds = {self._image.name: np.concatenate([known, mask.astype(np.float32)], axis=1)}
        elif self._is_bytes:
            feeds = {
                self._image.name: np.ascontiguousarray(image),
                self._mask.name: np.where(mask, 0, 255).astype(np.uint8),
            }
        else:
            feeds = {
                self._image.name: image.astype(np.float32) / np.float32(255),
                self._mask.name: mask.astype(np.float32),
            }
        [output, *_] = self._session.run(None, feeds)
        found: NDArray[np.float32] = output[0].transpose(1, 2, 0).astype(np.float32) * self._scale
        return found


def _dimension(shape: Any, axis: int) -> int | None:
    """A size of an input; None if the model takes any."""
    return shape[axis] if len(shape) > axis and isinstance(shape[axis], int) else None
