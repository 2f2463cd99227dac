"""Formats that annotation tools import: CVAT and Label Studio."""

import json
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from maskmesh.cli.export.datasets import joined
from maskmesh.cli.export.masks_document import DocumentObject, MasksDocument
from maskmesh.masks import PolygonMask


def write_cvat(document: MasksDocument, path: Path, tolerance: float) -> None:
    """CVAT's XML 1.1: masks of the frames of a video, or of images.

    Source: docs.cvat.ai, XML annotation format, and the importer's treatment of tracks of masks.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    if document.is_video and not document.files:
        _add_tracks(root, document)
    else:
        for number, frame in enumerate(document.frames):
            image = ElementTree.SubElement(
                root,
                "image",
                id=str(number),
                name=document.picture_name(frame),
                width=str(document.width),
                height=str(document.height),
            )
            for obj in frame.objects:
                attributes = cvat_mask(obj)
                if attributes:
                    own = {"label": obj.category, "source": "semi-auto", "occluded": "0"}
                    ElementTree.SubElement(image, "mask", own | attributes)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_tracks(root: ElementTree.Element, document: MasksDocument) -> None:
    """One track for each mask: CVAT has no tracks of masks, and keeps the first shape of one.

    The masks of an object are a group.
    """
    groups: dict[int, int] = {}
    number = 0
    for frame in document.frames:
        for obj in frame.objects:
            mask = cvat_mask(obj)
            if not mask:
                continue
            group = groups.setdefault(obj.obj_id, len(groups) + 1)
            own = {"id": str(number), "label": obj.category, "source": "semi-auto", "group_id": str(group)}
            track = ElementTree.SubElement(root, "track", own)
            place = {"frame": str(frame.index), "keyframe": "1", "outside": "0", "occluded": "0"}
            ElementTree.SubElement(track, "mask", place | mask)
            number += 1


def cvat_mask(obj: DocumentObject) -> dict[str, str]:
    """The attributes of a mask: its box, and in it run lengths in row order, background first.

    Empty for an empty mask.
    """
    pixels = obj.pixels()
    if not pixels.any():
        return {}
    rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
    part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    flat = part.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes.tolist(), len(flat)]).tolist()
    if flat[0]:
        runs.insert(0, 0)
    return {
        "rle": ", ".join(str(run) for run in runs),
        "left": str(int(columns[0])),
        "top": str(int(rows[0])),
        "width": str(part.shape[1]),
        "height": str(part.shape[0]),
        "z_order": "0",
    }


def write_label_studio(document: MasksDocument, path: Path, tolerance: float) -> None:
    """Tasks with predictions: polygons for images, boxes over time for a video, which has no masks there.

    Source: labelstud.io, guide/predictions and tags/videorectangle.
    """
    tasks: list[dict[str, Any]]
    if document.is_video and not document.files:
        tasks = [{"data": {"video": document.source}, "predictions": [{"result": _boxes(document)}]}]
    else:
        tasks = [
            {
                "data": {"image": document.picture_name(frame)},
                "predictions": [
                    {"result": [r for obj in frame.objects for r in _shapes(document, obj, tolerance)]}
                ],
            }
            for frame in document.frames
        ]
    path.write_text(json.dumps(tasks, indent=1) + "\n", encoding="utf-8")


def _shapes(document: MasksDocument, obj: DocumentObject, tolerance: float) -> list[dict[str, Any]]:
    percent = (100 / document.width, 100 / document.height)
    return [
        {
            "id": _result_id(document, obj, part),
            "type": "polygonlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": document.width,
            "original_height": document.height,
            "value": {
                "points": (joined(list(polygon)) * percent).round(4).tolist(),
                "polygonlabels": [obj.category],
            },
        }
        for part, polygon in enumerate(PolygonMask.encode(obj.pixels(), tolerance).polygons)
    ]


def _boxes(document: MasksDocument) -> list[dict[str, Any]]:
    sequences: dict[int, list[dict[str, Any]]] = {}
    objects: dict[int, DocumentObject] = {}
    for frame in document.frames:
        seen = {obj.obj_id: obj.pixels() for obj in frame.objects}
        for obj_id, entries in sequences.items():
            if obj_id not in seen or not seen[obj_id].any():
                entries[-1]["enabled"] = False  # the box is not continued to this frame
        for obj in frame.objects:
            objects.setdefault(obj.obj_id, obj)
            pixels = seen[obj.obj_id]
            if not pixels.any():
                continue
            entries = sequences.setdefault(obj.obj_id, [])
            rows, columns = np.nonzero(pixels.any(axis=1))[0], np.nonzero(pixels.any(axis=0))[0]
            entries.append(
                {
                    "frame": frame.index + 1,
                    "enabled": True,
                    "x": round(100 * int(columns[0]) / document.width, 4),
                    "y": round(100 * int(rows[0]) / document.height, 4),
                    "width": round(100 * (int(columns[-1]) + 1 - int(columns[0])) / document.width, 4),
                    "height": round(100 * (int(rows[-1]) + 1 - int(rows[0])) / document.height, 4),
                    "rotation": 0,
                }
            )
    count = max(frame.index for frame in document.frames) + 1
    return [
        {
            "id": _result_id(document, objects[obj_id], 0),
            "type": "videorectangle",
            "from_name": "box",
            "to_name": "video",
            "value": {"labels": [objects[obj_id].category], "framesCount": count, "sequence": entries},
        }
        for obj_id, entries in sequences.items()
    ]


def _result_id(document: MasksDocument, obj: DocumentObject, part: int) -> str:
    """The id of a result, the same in every export of the masks."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{document.source}/{obj.obj_id}/{part}").hex[:10]
