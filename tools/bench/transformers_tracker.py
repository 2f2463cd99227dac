"""transformers' video model, with the settings that its documentation recommends for speed on a CPU.

Scaled dot-product attention, inference mode, all cores, the whole model in one type.  Frames are resized
and normalised before the timed section, and masks are not resized to the size of the frame.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from encoder_svc.model.preprocess import preprocess
from maskmesh.media.video_reader import read_frames
from tools.bench.contenders import Click, Logits
from tools.bench.weights import IMAGE_SIZE, random_model

CPU = torch.device("cpu")


class TransformersTracker:
    """A :class:`~tools.bench.contenders.LocalTracker`."""

    def __init__(self, video: Path, frames: int, dtype_name: str) -> None:
        self._dtype = getattr(torch, dtype_name)
        self._model = random_model()
        self._model.set_attn_implementation("sdpa")
        self._model.to(self._dtype)
        self._frames, size = [], (0, 0)
        for _, pixels in zip(range(frames), read_frames(video), strict=False):
            size = pixels.shape[:2]
            image = torch.from_numpy(pixels.copy())
            self._frames.append(preprocess(image, IMAGE_SIZE, CPU, self._dtype)[0])
        self._height, self._width = size

    @torch.inference_mode()
    def begin(self, clicks: Sequence[Click]) -> None:
        """Click on objects on frame 0."""
        self._session = Sam2VideoInferenceSession(
            torch.stack(self._frames), self._height, self._width, dtype=self._dtype
        )
        for obj_id, (x, y) in enumerate(clicks):
            row = self._session.obj_id_to_idx(obj_id)
            point = [x / self._width * IMAGE_SIZE, y / self._height * IMAGE_SIZE]
            said = {
                "point_coords": torch.tensor([[[point]]]),
                "point_labels": torch.ones(1, 1, 1, dtype=torch.int32),
            }
            self._session.add_point_inputs(row, 0, said)
        self._session.obj_with_new_inputs = list(range(len(clicks)))
        self._model(self._session, frame_idx=0)

    @torch.inference_mode()
    def track(self, frame: int) -> list[Logits]:
        """Track the next frame; returns the mask logits of each object."""
        masks = self._model(self._session, frame_idx=frame).pred_masks
        return list(masks[:, 0].float().numpy())
