"""Formats of datasets: COCO, YOLO and DAVIS."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from maskmesh.cli.export.masks_document import MasksDocument
from maskmesh.masks import BoolArray, PolygonMask
from maskmesh.masks.polygons import Ring

# The largest number of a palette image.
MAX_PALETTE = 255


def write_coco(document: MasksDocument, path: Path, tolerance: float) -> None:
    """COCO's JSON: masks as RLE, so they are exact; ``track_id`` is the object's number.

    Source: cocodataset.org, format-data.
    """
    names = {name: number for number, name in enumerate(document.categories, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, frame in enumerate(document.frames, start=1):
        for obj in frame.objects:
            pixels = obj.pixels()
            if not pixels.any():
                continue
            x0, y0, x1, y1 = _corners(pixels)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": names[obj.category],
                "segmentation": obj.mask.to_coco(),
                "area": int(pixels.sum()),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
                "track_id": obj.obj_id,
            }
            annotations.append(annotation | ({} if obj.score is None else {"score": obj.score}))
    content = {
        "info": {"description": document.source},
        "images": [
            {
                "id": number,
                "file_name": document.picture_name(frame),
                "width": document.width,
                "height": document.height,
                "frame_index": frame.index,
            }
            for number, frame in enumerate(document.frames, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in names.items()],
    }
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def write_yolo(document: MasksDocument, folder: Path, tolerance: float) -> None:
    """YOLO's segmentation format: ``labels/NAME.txt`` with a polygon for each part, and ``data.yaml``.

    Holes are joined to their outline, because a line has one polygon.  Source: docs.ultralytics.com,
    datasets/segment.
    """
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    categories = document.categories
    for frame in document.frames:
        lines = []
        for obj in frame.objects:
            for polygon in PolygonMask.encode(obj.pixels(), tolerance).polygons:
                ring = joined(list(polygon)) / (document.width, document.height)
                numbers = " ".join(f"{value:.6f}" for value in ring.reshape(-1))
                lines.append(f"{categories.index(obj.category)} {numbers}\n")
        (labels / f"{Path(document.picture_name(frame)).stem}.txt").write_text(
            "".join(lines), encoding="utf-8"
        )
    names = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(categories))
    # Without a path, folders are relative to this file.
    data = f"train: images\nval: images\nnames:\n{names}"
    (folder / "data.yaml").write_text(data, encoding="utf-8")


def write_davis(document: MasksDocument, folder: Path, tolerance: float) -> None:
    """A folder of palette images as in DAVIS, one for each frame: a pixel has the number of its object.

    Objects are numbered from 1 in order of appearance; where they overlap, the last one wins.  Raises
    ValueError if there are more than 255.
    """
    obj_ids = list(dict.fromkeys(obj.obj_id for frame in document.frames for obj in frame.objects))
    if len(obj_ids) > MAX_PALETTE:
        raise ValueError(f"{len(obj_ids)} objects do not fit into a palette of {MAX_PALETTE}")
    numbers = {obj_id: number for number, obj_id in enumerate(obj_ids, start=1)}
    folder.mkdir(parents=True, exist_ok=True)
    for frame in document.frames:
        values = np.zeros((document.height, document.width), dtype=np.uint8)
        for obj in frame.objects:
            values[obj.pixels()] = numbers[obj.obj_id]
        picture = PillowImage.fromarray(values, "P")
        picture.putpalette(davis_palette())
        # Masks are paired with pictures by their names; the frames of a video have numbers, as in DAVIS.
        name = f"{frame.index:05d}"
        if document.is_image or document.files:
            name = Path(document.picture_name(frame)).stem
        picture.save(folder / f"{name}.png")


def davis_palette() -> list[int]:
    """The palette of PASCAL VOC, which DAVIS uses: the bits of a number, spread over the colours."""
    palette = []
    for number in range(256):
        colour = [0, 0, 0]
        rest = number
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (rest >> channel & 1) << (7 - bit)
            rest >>= 3
        palette += colour
    return palette


def joined(rings: list[Ring]) -> Ring:
    """One ring from an outline and its holes, which begin and end at the nearest point of the outline."""
    whole = rings[0]
    for hole in rings[1:]:
        distances = np.hypot(whole[:, None, 0] - hole[None, :, 0], whole[:, None, 1] - hole[None, :, 1])
        at, start = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.roll(hole, -int(start), axis=0)
        whole = np.vstack((whole[: at + 1], around, around[:1], whole[at:]))
    return whole


def _corners(pixels: BoolArray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
