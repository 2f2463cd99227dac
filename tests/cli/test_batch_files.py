"""Files of prompts and folders of a batch."""

import json
from pathlib import Path

import pytest
from PIL import Image

from maskmesh import Box, Concept, Point, Prompt
from maskmesh.cli.batch.items import find_items
from maskmesh.cli.batch.prompts_file import FramePrompt, ItemPrompts, PromptsFile, PromptsFileError
from maskmesh.cli.prompt_options import FrameConcept
from tests.corpus.video_files import write

CSV = """file,frame,object,points,box,concept,concept_boxes
a.mp4,3,7,"10,20 30,40,0",,,
*.mp4,,,,"1,2,3,4",,
shop/b.png,,,,,red cup,"5,6,7,8 1,1,2,2,0"
"""

ROWS = [
    {"file": "a.mp4", "frame": 3, "object": 7, "points": [[10, 20], [30, 40, 0]]},
    {"file": "*.mp4", "box": [1, 2, 3, 4]},
    {"file": "shop/b.png", "concept": "red cup", "concept_boxes": [[5, 6, 7, 8], [1, 1, 2, 2, 0]]},
]


@pytest.fixture(params=["csv", "json"])
def prompts_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"prompts.{request.param}"
    path.write_text(CSV if request.param == "csv" else json.dumps(ROWS), encoding="utf-8-sig")
    return path


def test_rows_prompt_the_files_that_they_name(prompts_path: Path) -> None:
    file = PromptsFile.read(prompts_path)
    clip = file.of("a.mp4")
    assert clip.prompts == [
        FramePrompt(7, 3, Prompt([Point(10, 20), Point(30, 40, False)])),
        FramePrompt(1, 0, Prompt(box=Box(1, 2, 3, 4))),
    ]
    assert clip.frames == [3, 0]
    assert file.of("shop/c.mp4").prompts == clip.prompts[1:]
    assert file.of("shop/b.png").concepts == [
        FrameConcept(Concept.of("red cup", [(5, 6, 7, 8), (1, 1, 2, 2, 0)]), 0)
    ]
    assert not file.of("c.png")
    assert [row.split(": ")[1] for row in file.unmatched(["b.mp4"])] == ["a.mp4", "shop/b.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,points\n", "has no rows"),
        ("file,point\na,1", "the first line has the unknown column 'point'"),
        ('file,points\na,"1,2"\nb,"1,x"', "line 3, points: '1,x' is not of numbers"),
        ("file,points\na", "line 2 has another number of columns"),
        ('file,points\na,"1,2,5"', "line 2: a point is x, y and a label of 0 or 1"),
        ('file,box\na,"1,2,3,4 5,6,7,8"', "line 2, box: .* is not one box"),
        ('file,points,concept\na,"1,2",cup', "line 2: a row has points or a box, or a concept"),
        ("file,frame\na,1", "line 2: a row has points or a box, or a concept"),
        ('file,frame,points\na,-1,"1,2"', "line 2, frame: -1 is negative"),
        ('points\n"1,2"', "line 2: the column file is missing"),
        ("[1]", "element 0 is not an object"),
        ("{}", "the JSON is not a list"),
        ("[", "the JSON cannot be read"),
        ('[{"file": "a", "object": "b", "points": [[1, 2]]}]', "element 0, object: 'b' is not an integer"),
        ('[{"file": "a", "points": 3}]', "element 0: points are a list"),
        ('[{"file": "a", "concept": 5}]', "element 0, concept: 5 is not text"),
        ('"file', "line 1: unexpected end of data"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts"
    path.write_text(text)
    with pytest.raises(PromptsFileError, match=message):
        PromptsFile.read(path)


def test_items_are_media_in_all_subfolders(tmp_path: Path) -> None:
    (tmp_path / "shop" / ".cache").mkdir(parents=True)
    for name in ("b.png", "shop/a.jpg", "shop/.cache/c.png", "b.png.overlay.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    write(tmp_path / "clip.mkv", range(2)).rename(tmp_path / "clip")  # names of files say nothing
    (tmp_path / "broken.mp4").write_bytes(bytes(50))  # but this one should be a video
    for name in ("notes.txt", "b.png.masks.json", "empty", "prompts.csv"):
        (tmp_path / name).write_text("" if name == "empty" else "{} ä")
    (tmp_path / "weights.pt").write_bytes(bytes(range(256)))
    items = find_items(tmp_path, None, overlays=True)
    assert [(item.name, item.is_video) for item in items] == [
        ("b.png", False),
        ("broken.mp4", True),
        ("clip", True),
        ("shop/a.jpg", False),
    ]
    assert items[0].masks == tmp_path / "b.png.masks.json"
    assert items[2].overlay == tmp_path / "clip.overlay.mp4"
    assert items[0].is_done  # it has both results
    assert not items[3].is_done
    elsewhere = find_items(tmp_path, tmp_path / "found", overlays=False)
    assert elsewhere[3].masks == tmp_path / "found" / "shop" / "a.jpg.masks.json"
    assert elsewhere[3].overlay is None
    (tmp_path / "found" / "shop").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "found" / "shop" / "picture.png")
    assert len(find_items(tmp_path, tmp_path / "found", overlays=False)) == 4
    for around in (tmp_path, tmp_path.parent):
        assert len(find_items(tmp_path, around, overlays=False)) >= 4


def test_names_with_brackets_are_found(tmp_path: Path) -> None:
    (tmp_path / "prompts.csv").write_text('file,points\nclip[1].mp4,"1,2"\n')
    file = PromptsFile.read(tmp_path / "prompts.csv")
    assert file.of("clip[1].mp4")
    assert not file.unmatched(["clip[1].mp4"])


def test_a_box_is_sent_with_the_points_of_its_object() -> None:
    """Whatever their order, and apart from other frames and objects."""
    points, box = Prompt([Point(1, 2)]), Prompt(box=Box(1, 2, 3, 4))
    prompts = ItemPrompts(
        [
            FramePrompt(1, 0, points),
            FramePrompt(2, 0, points),
            FramePrompt(1, 5, points),
            FramePrompt(1, 0, box),
        ],
        [],
    )
    assert prompts.merged() == {
        (0, 1): Prompt([Point(1, 2)], Box(1, 2, 3, 4)),
        (0, 2): points,
        (5, 1): points,
    }
