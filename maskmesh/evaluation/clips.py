"""Evaluation of a mesh's masks: single images from a click and a box, clips from a click.

It uses the client only, so it can evaluate any model that a mesh serves on any folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from maskmesh.client.async_client import AsyncClient
from maskmesh.evaluation.mask_metrics import (
    bounding_box,
    contour_accuracy,
    innermost_point,
    region_similarity,
)
from maskmesh.masks import BoolArray, RleMask
from maskmesh.masks.values import LabelArray, decode_mask_file, image_values, object_labels
from maskmesh.media.pictures import NO_LIMIT, ImageLike, is_picture, picture_size
from maskmesh.types import ObjectMask, Prompt

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class ImageScores:
    """IoU of one object of one image, prompted by a click and by a box."""

    name: str
    click: float
    box: float


@dataclass(frozen=True, slots=True)
class ObjectScores:
    """Scores of one object over a clip, without the first (prompted) and the last frame, as in DAVIS.

    ``j`` and ``f`` are means over these frames; an empty mask on a frame without the object scores 1.
    ``j_in_sight`` is the mean J on the frames that show the object, ``late_j`` that on the last five of
    them; both are None if no frame shows it.  ``sight`` is the share of frames on which the sign of the
    object score is right: positive if the frame shows the object.
    """

    name: str
    obj_id: int
    j: float
    f: float
    j_in_sight: float | None
    late_j: float | None
    sight: float


LATE_FRAMES = 5


@dataclass(frozen=True, slots=True)
class TrueFrame:
    """One image, and the ``obj_id`` of each of its pixels, 0 for no object: [H, W]."""

    name: str
    image: ImageLike
    labels: LabelArray

    def objects(self) -> list[int]:
        """The ids of the objects that the frame shows."""
        return [int(obj_id) for obj_id in np.unique(self.labels) if obj_id]

    def mask(self, obj_id: int) -> BoolArray:
        """The mask of one object: [H, W], bool."""
        mask: BoolArray = self.labels == obj_id
        return mask


def read_folder(images: Path, masks: Path) -> list[TrueFrame]:
    """Read images and masks with the same names, in order of their names.

    Masks are read by the rule of :mod:`maskmesh.masks.values`: the pixels of a palette are ids of objects, as
    in DAVIS, and so are others unless they are black and white.  Images without a mask are left out.
    Raises ValueError if no image has a mask, if sizes differ, or if two masks have the same name.
    """
    found: dict[str, Path] = {}
    for path in sorted(masks.iterdir()):
        if is_picture(path) and found.setdefault(path.stem, path) != path:
            raise ValueError(f"{found[path.stem].name} and {path.name} have the same name")
    frames = []
    for path in sorted(p for p in images.iterdir() if is_picture(p)):
        if path.stem not in found:
            continue
        labels = read_labels(found[path.stem])
        if labels.shape != _displayed_shape(path):
            raise ValueError(f"{found[path.stem].name} and {path.name} differ in size")
        frames.append(TrueFrame(path.stem, path, labels))
    if not frames:
        raise ValueError(f"no image in {images} has a mask of its name in {masks}")
    return frames


def read_labels(path: Path) -> LabelArray:
    """The ids of the objects in a mask file, 0 for no object: [H, W]; see :func:`read_folder`.

    Raises ValueError if its values are neither ids nor black and white.
    """
    try:
        image = decode_mask_file(path.read_bytes())
        values = image_values(image)
        return values.astype(np.int64) if image.mode == "P" else object_labels(values)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _displayed_shape(path: Path) -> tuple[int, int]:
    width, height = picture_size(path.read_bytes(), NO_LIMIT, field=path.name)
    return height, width


async def evaluate_images(
    client: AsyncClient, frames: Sequence[TrueFrame], progress: Progress = lambda done: None
) -> list[ImageScores]:
    """Score every object of every image, from one click at its innermost point and from its box.

    A click is ambiguous, so the most confident of three masks counts; for a box one mask is requested.
    Raises ValueError if no mask shows an object.
    """
    scores = []
    for done, frame in enumerate(frames, start=1):
        objects = frame.objects()
        for obj_id in objects:
            true = frame.mask(obj_id)
            click = {obj_id: Prompt(points=[innermost_point(true)])}
            box = {obj_id: Prompt(box=bounding_box(true))}
            clicked = await client.segment_image(frame.image, click, multimask_output=True)
            boxed = await client.segment_image(frame.image, box)
            ious = (region_similarity(_mask(found.objects[obj_id][0]), true) for found in (clicked, boxed))
            name = frame.name if len(objects) == 1 else f"{frame.name}:{obj_id}"
            scores.append(ImageScores(name, *ious))
        progress(done)
    if not scores:
        raise ValueError("no mask shows an object")
    return scores


async def evaluate_clip(
    client: AsyncClient, name: str, frames: Sequence[TrueFrame], progress: Progress = lambda done: None
) -> list[ObjectScores]:
    """Score the objects of a clip's first frame, each from one click on it at its innermost point.

    Raises ValueError if the first frame shows no object, or the clip has fewer than three frames.
    """
    if len(frames) < 3:
        raise ValueError(f"{name} has {len(frames)} frames; the first and the last do not count")
    found: dict[int, list[ObjectMask]] = {obj_id: [] for obj_id in frames[0].objects()}
    if not found:
        raise ValueError(f"{name} has no object on its first frame")
    async with client.session() as session:
        await session.append_frames(frame.image for frame in frames)
        for obj_id in found:
            await session.add_prompt(0, obj_id, points=[innermost_point(frames[0].mask(obj_id))])
        async for tracked in session.propagate():
            for obj_id, mask_found in tracked.objects.items():
                found[obj_id].append(mask_found)
            progress(tracked.frame_index + 1)
    return [
        score_object(name, obj_id, masks, [frame.mask(obj_id) for frame in frames])
        for obj_id, masks in found.items()
    ]


def score_object(
    name: str, obj_id: int, found: Sequence[ObjectMask], true: Sequence[BoolArray]
) -> ObjectScores:
    """Compare one object's masks with the true ones, frame by frame; see :class:`ObjectScores`."""
    counted = range(1, len(true) - 1)
    regions = [region_similarity(_mask(found[i]), true[i]) for i in counted]
    contours = [contour_accuracy(_mask(found[i]), true[i]) for i in counted]
    visibility = [bool(true[i].any()) for i in counted]
    in_sight = [j for j, visible in zip(regions, visibility, strict=True) if visible]
    right = [
        (found[i].object_score_logit > 0) == visible for i, visible in zip(counted, visibility, strict=True)
    ]
    return ObjectScores(
        name,
        obj_id,
        j=fmean(regions),
        f=fmean(contours),
        j_in_sight=fmean(in_sight) if in_sight else None,
        late_j=fmean(in_sight[-LATE_FRAMES:]) if in_sight else None,
        sight=fmean(right),
    )


def _mask(found: ObjectMask) -> BoolArray:
    assert isinstance(found.mask, RleMask), "the evaluation requests COCO RLE"
    return found.mask.decode()
