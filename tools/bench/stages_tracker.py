"""The stages of the mesh, called sequentially in one process."""

from collections.abc import Sequence
from pathlib import Path

import torch

from encoder_svc.config import EncoderSettings
from encoder_svc.model import weights as encoder_weights
from encoder_svc.model.config import PRESETS as ENCODER_PRESETS
from encoder_svc.model.preprocess import preprocess
from maskmesh.masks import MaskOptions
from maskmesh.media.video_reader import read_frames
from maskmesh.nn.image_features import ImageFeatures
from maskmesh.nn.loading import load_model
from maskmesh.scheduling.malloc import retain_freed_memory
from maskmesh.types import DTypeSetting, Point, Prompt
from tools.bench.contenders import Click, Logits
from tracker_svc.compute.mask_output import object_masks
from tracker_svc.compute.step import Frame, Step
from tracker_svc.compute.tracker import Tracker
from tracker_svc.config import TrackerSettings
from tracker_svc.memory.tracked_object import TrackedObject
from tracker_svc.model import weights as tracker_weights
from tracker_svc.model.config import PRESETS as TRACKER_PRESETS


class StagesTracker:
    """A :class:`~tools.bench.contenders.LocalTracker` with all stages of the services and no transfers."""

    def __init__(self, video: Path, model: str, checkpoint: Path | None, dtype: DTypeSetting) -> None:
        retain_freed_memory()
        settings = EncoderSettings(model=model, checkpoint=checkpoint, dtype=dtype)
        self._encoder = load_model(settings, ENCODER_PRESETS, encoder_weights.build)
        tracker_settings = TrackerSettings(model=model, checkpoint=checkpoint, dtype=dtype)
        tracker = load_model(tracker_settings, TRACKER_PRESETS, tracker_weights.build)
        self._tracker = Tracker(tracker.model)
        self._pixels = [frame.copy() for frame in read_frames(video)]
        self._objects: list[TrackedObject] = []

    def begin(self, clicks: Sequence[Click]) -> None:
        """Click on objects on frame 0."""
        frame = self._encode(0)
        self._objects = [TrackedObject(obj_id) for obj_id in range(len(clicks))]
        recorder = self._tracker.recorder()
        for obj, click in zip(self._objects, clicks, strict=True):
            prompt = Prompt([Point(*click)])
            state = self._tracker.prompt(obj, 0, prompt, frame, clear_previous=False, recorder=recorder)
            obj.bank.prompt(0, state)
        self._tracker.memorize_prompted(Step(self._objects, 0, frame, recorder))
        self._tracker.track([Step(self._objects, 0, frame, recorder)])

    def track(self, frame: int) -> list[Logits]:
        """Track the next frame; returns the mask logits of each object."""
        seen = self._encode(frame)
        step = Step(self._objects, frame, seen, self._tracker.recorder())
        [states] = self._tracker.track([step])
        object_masks(list(states), list(states.values()), MaskOptions(), width=seen.width, height=seen.height)
        self._tracker.memorize_tracked([step])
        return [state.low_res_masks[0].numpy() for state in states.values()]

    @torch.inference_mode()
    def _encode(self, frame: int) -> Frame:
        pixels = self._pixels[frame]
        encoder = self._encoder
        image = preprocess(torch.from_numpy(pixels), encoder.info.image_size, encoder.device, encoder.dtype)
        return Frame(ImageFeatures(*encoder.model(image)), pixels.shape[1], pixels.shape[0])
