"""Masks in the formats of datasets and annotation tools, read back by other code."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from maskmesh import RleMask
from maskmesh.cli.export.datasets import davis_palette
from maskmesh.cli.main import main
from maskmesh.masks import BoolArray

HEIGHT, WIDTH = 40, 60


def disc(x: float, y: float, radius: float) -> BoolArray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask: BoolArray = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    return mask


RING = disc(20, 20, 12) & ~disc(20, 20, 5)
DISC = disc(45, 15, 8)
NOTHING = np.zeros((HEIGHT, WIDTH), dtype=bool)


def document(*frames: dict[int, BoolArray], source: str = "clip.mp4") -> dict[str, Any]:
    return {
        "source": source,
        "width": WIDTH,
        "height": HEIGHT,
        "concepts": [{"concept_id": 1, "phrase": "yellow ring"}],
        "frames": [
            {
                "frame_index": index,
                "objects": [
                    {
                        "obj_id": obj_id,
                        "segmentation": RleMask.encode(mask).to_coco(),
                        "predicted_iou": 0.9,
                        **({"concept_id": 1, "concept_score": 0.8} if obj_id == 7 else {}),
                    }
                    for obj_id, mask in objects.items()
                ],
            }
            for index, objects in enumerate(frames)
        ],
    }


VIDEO = document({7: RING, 2: DISC}, {7: RING, 2: NOTHING}, {7: RING})
PICTURE = document({7: RING, 2: DISC}, source="photo.jpg")


def export(tmp_path: Path, content: object, name: str, output: str, *flags: str) -> Path:
    masks = tmp_path / "masks.json"
    masks.write_text(json.dumps(content))
    arguments = ["export", str(masks), "--format", name, "-o", str(tmp_path / output), *flags]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return tmp_path / output


def test_coco_is_read_by_its_own_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = COCO(str(export(tmp_path, VIDEO, "coco", "coco.json")))
    assert [category["name"] for category in dataset.dataset["categories"]] == ["yellow ring", "object"]
    assert dataset.dataset["images"][0]["file_name"] == "clip_000000.jpg"
    annotations: list[Any] = list(dataset.dataset["annotations"])
    rings = [a for a in annotations if a["track_id"] == 7]
    assert len(rings) == 3
    assert np.array_equal(dataset.annToMask(rings[0]).astype(bool), RING)
    assert rings[0]["area"] == RING.sum()
    assert rings[0]["bbox"] == [9, 9, 23, 23]
    assert len([a for a in annotations if a["track_id"] == 2]) == 1


def test_yolo_polygons_cover_the_masks(tmp_path: Path) -> None:
    folder = export(tmp_path, PICTURE, "yolo", "yolo", "--tolerance", "0")
    assert "path:" not in (folder / "data.yaml").read_text(), "folders are relative to the file"
    lines = (folder / "labels" / "photo.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    for line, mask in zip(lines, (RING, DISC), strict=True):
        points = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * (WIDTH, HEIGHT)
        canvas = Image.new("L", (WIDTH * 8, HEIGHT * 8))
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in (points * 8).tolist()], fill=1)
        # The middle of each pixel, at eight times the size.
        drawn = np.asarray(canvas)[4::8, 4::8].astype(bool)
        assert (drawn == mask).mean() > 0.99
    assert '0: "yellow ring"' in (folder / "data.yaml").read_text()


def test_davis_numbers_objects_from_one(tmp_path: Path) -> None:
    folder = export(tmp_path, VIDEO, "davis", "davis")
    assert sorted(path.name for path in folder.iterdir()) == ["00000.png", "00001.png", "00002.png"]
    with Image.open(folder / "00000.png") as picture:
        assert picture.mode == "P"
        values = np.asarray(picture)
    assert np.array_equal(values == 1, RING & ~DISC)
    assert np.array_equal(values == 2, DISC)
    assert davis_palette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def cvat_pixels(shape: ElementTree.Element) -> BoolArray:
    """The reading of CVAT: runs in row order, background first, within a box."""
    runs = [int(run) for run in shape.attrib["rle"].split(",")]
    left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
    flat = np.concatenate([np.full(run, number % 2, dtype=bool) for number, run in enumerate(runs)])
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + height, left : left + width] = flat.reshape(height, width)
    return mask


def test_davis_masks_have_the_names_of_their_pictures(tmp_path: Path) -> None:
    named = VIDEO | {"files": ["img_010.jpg", "img_015.jpg", "img_020.jpg"]}
    folder = export(tmp_path, named, "davis", "davis")
    assert sorted(path.name for path in folder.iterdir()) == ["img_010.png", "img_015.png", "img_020.png"]
    folder = export(tmp_path, PICTURE, "davis", "of-one")
    assert [path.name for path in folder.iterdir()] == ["photo.png"]


def test_cvat_gets_every_mask_of_a_video(tmp_path: Path) -> None:
    root = ElementTree.parse(export(tmp_path, VIDEO, "cvat", "cvat.xml")).getroot()
    # CVAT imports the first shape of a track of masks, and fails for a track without one.
    shapes = [(track, track[0]) for track in root.findall("track")]
    assert all(len(track) == 1 and shape.attrib["outside"] == "0" for track, shape in shapes)
    found = [
        (shape.attrib["frame"], track.attrib["label"], track.attrib["group_id"]) for track, shape in shapes
    ]
    assert found == [
        ("0", "yellow ring", "1"),
        ("0", "object", "2"),
        ("1", "yellow ring", "1"),
        ("2", "yellow ring", "1"),
    ]
    for _, shape in shapes[::2]:
        assert np.array_equal(cvat_pixels(shape), RING)
    assert np.array_equal(cvat_pixels(shapes[1][1]), DISC)


def test_cvat_images_have_masks(tmp_path: Path) -> None:
    root = ElementTree.parse(export(tmp_path, PICTURE, "cvat", "cvat.xml")).getroot()
    [image] = root.findall("image")
    assert image.attrib["name"] == "photo.jpg"
    assert np.array_equal(cvat_pixels(image[1]), DISC)


def test_label_studio_tasks(tmp_path: Path) -> None:
    [task] = json.loads(export(tmp_path, PICTURE, "label-studio", "ls.json").read_text())
    assert task["data"] == {"image": "photo.jpg"}
    shape = task["predictions"][0]["result"][1]
    points = np.array(shape["value"]["points"])
    assert points[:, 0].min() == pytest.approx(100 * 38 / WIDTH, abs=1.7)
    [video] = json.loads(export(tmp_path, VIDEO, "label-studio", "ls.json").read_text())
    ring, other = video["predictions"][0]["result"]
    assert ring["type"] == "videorectangle"
    assert ring["value"]["framesCount"] == 3
    assert [entry["enabled"] for entry in other["value"]["sequence"]] == [False]


def test_a_box_ends_where_its_object_is_not_in_the_frame(tmp_path: Path) -> None:
    gap = document({2: DISC}, {}, {2: DISC}, {})
    [task] = json.loads(export(tmp_path, gap, "label-studio", "ls.json").read_text())
    [box] = task["predictions"][0]["result"]
    entries = [(entry["frame"], entry["enabled"]) for entry in box["value"]["sequence"]]
    assert entries == [(1, False), (3, False)]


def test_pictures_keep_their_names(tmp_path: Path) -> None:
    picture = document({2: DISC}, source="photo.png") | {"is_image": True}
    dataset = json.loads(export(tmp_path, picture, "coco", "coco.json").read_text())
    assert dataset["images"][0]["file_name"] == "photo.png"
    folder = document({2: DISC}, {2: DISC}, source="frames") | {
        "files": ["a1.png", "a2.png"],
        "is_image": False,
    }
    dataset = json.loads(export(tmp_path, folder, "coco", "coco.json").read_text())
    assert [image["file_name"] for image in dataset["images"]] == ["a1.png", "a2.png"]
    # A video with a single result is a video.
    clip = document({2: DISC}) | {"is_image": False}
    [task] = json.loads(export(tmp_path, clip, "label-studio", "ls.json").read_text())
    assert task["data"] == {"video": "clip.mp4"}


def test_lines_of_a_stream_are_read(tmp_path: Path) -> None:
    lines = [{"sequence": 2 * n} | frame for n, frame in enumerate(VIDEO["frames"])]
    masks = tmp_path / "masks.jsonl"
    masks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = CliRunner().invoke(
        main, ["export", str(masks), "--format", "davis", "-o", str(tmp_path / "d")], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["00000.png", "00002.png", "00004.png"]


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"frames": [{"objects": [{}]}]}', "no json"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    masks = tmp_path / "masks.json"
    masks.write_text(text)
    result = CliRunner().invoke(main, ["export", str(masks), "--format", "coco", "-o", str(tmp_path / "c")])
    assert result.exit_code != 0
    assert "no file of --masks" in result.output or "no frames" in result.output
