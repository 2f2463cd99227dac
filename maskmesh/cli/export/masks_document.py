"""What the files of ``--masks`` hold, read back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmesh.masks import BoolArray, RleMask

# The category of objects that no concept found.
OBJECT = "object"


@dataclass(frozen=True, slots=True)
class DocumentObject:
    """One object on one frame."""

    obj_id: int
    mask: RleMask
    category: str
    score: float | None

    def pixels(self) -> BoolArray:
        """The mask: [H, W], bool.  Raises ValueError if it is malformed."""
        return self.mask.decode()


@dataclass(frozen=True, slots=True)
class DocumentFrame:
    """One frame, or the one image."""

    index: int
    objects: Sequence[DocumentObject]


@dataclass(frozen=True, slots=True)
class MasksDocument:
    """All masks of one source."""

    source: str
    width: int
    height: int
    frames: Sequence[DocumentFrame]
    files: Sequence[str] = ()
    """The names of the pictures that are the frames; empty for a video, and for an image."""
    is_image: bool = False
    """Whether the source is one image."""

    @property
    def stem(self) -> str:
        """The name of the source without its suffix."""
        return Path(self.source).stem or "masks"

    @property
    def is_video(self) -> bool:
        """Whether the source has frames."""
        return not self.is_image

    @property
    def categories(self) -> list[str]:
        """The categories of the objects, in order of appearance."""
        found = (obj.category for frame in self.frames for obj in frame.objects)
        return list(dict.fromkeys(found)) or [OBJECT]

    def picture_name(self, frame: DocumentFrame) -> str:
        """The name of a frame's picture: that of its file, or for a video its own, numbered."""
        if self.is_image:
            return self.source
        if frame.index < len(self.files):
            return self.files[frame.index]
        return f"{self.stem}_{frame.index:06d}.jpg"


def read_masks(path: Path) -> MasksDocument:
    """Read a file of ``--masks``, of ``segment``, ``batch`` or ``everything`` (JSON) or ``stream`` (lines).

    Raises OSError, and ValueError if it is none.
    """
    text = path.read_text(encoding="utf-8")
    try:
        try:
            content = json.loads(text)
        except ValueError:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            content = {"source": path.stem, "frames": lines}
        if "frames" not in content:  # a stream of one frame
            content = {"source": path.stem, "frames": [content], "is_image": False}
        titles = {int(each["concept_id"]): str(each["phrase"]) for each in content.get("concepts", ())}
        frames = [_frame(frame, number, titles) for number, frame in enumerate(content["frames"])]
        sizes = [(obj.mask.width, obj.mask.height) for frame in frames for obj in frame.objects]
        width, height = sizes[0] if sizes else (0, 0)
        return MasksDocument(
            str(content.get("source", path.stem)),
            int(content.get("width", width)),
            int(content.get("height", height)),
            frames,
            [str(name) for name in content.get("files", ())],
            # Files of earlier versions do not say.
            bool(content.get("is_image", len(frames) == 1 and not frames[0].index)),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path.name} is no file of --masks: {error!r}") from error


def _frame(content: Mapping[str, Any], number: int, titles: Mapping[int, str]) -> DocumentFrame:
    objects = []
    for each in content["objects"]:
        category = each.get("concept") or titles.get(each.get("concept_id"), OBJECT)
        score = each.get("score", each.get("concept_score", each.get("predicted_iou")))
        mask = RleMask.from_coco(each["segmentation"])
        objects.append(DocumentObject(int(each["obj_id"]), mask, str(category), score))
    # The numbers of a stream's frames are those that its source has.
    return DocumentFrame(int(content.get("sequence", content.get("frame_index", number))), objects)
