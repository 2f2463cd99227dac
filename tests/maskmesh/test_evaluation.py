"""Reading of image folders, and object scores compared with values computed by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskmesh import ObjectMask, RleMask
from maskmesh.evaluation.clips import ObjectScores, score_object
from maskmesh.evaluation.concepts import ConceptScores, matched_ious
from maskmesh.evaluation.images import ImageScores
from maskmesh.evaluation.mask_metrics import corrective_click, innermost_point, region_similarity
from maskmesh.evaluation.table import clips_row, concepts_row, images_row, make_table
from maskmesh.evaluation.truth import find_sets, read_folder, read_labels
from maskmesh.masks import BoolArray


def columns(count: int) -> BoolArray:
    mask = np.zeros((60, 80), dtype=np.bool_)
    mask[:, :count] = True
    return mask


def found(count: int, score: float) -> ObjectMask:
    return ObjectMask(1, RleMask.encode(columns(count)), 0.9, score)


def test_first_and_last_frames_are_not_scored() -> None:
    true = [columns(40)] * 4
    scores = score_object("clip", 1, [found(0, -1), found(40, 1), found(20, 1), found(0, -1)], true)
    assert scores.j == scores.j_in_sight == scores.late_j == pytest.approx(0.75)
    assert scores.sight == 1
    assert 0 < scores.f < 1


def test_absent_frames_count_for_j_and_sight() -> None:
    true = [columns(40), columns(0), columns(0), columns(40), columns(40)]
    masks = [found(40, 1), found(0, -1), found(9, 2), found(40, -1), found(40, 1)]
    scores = score_object("clip", 1, masks, true)
    assert scores.j == pytest.approx((1 + 0 + 1) / 3)
    assert scores.j_in_sight == 1
    assert scores.sight == pytest.approx(1 / 3)


def test_late_j_uses_the_last_five_visible_frames() -> None:
    true = [columns(40)] * 10 + [columns(0)] * 2
    masks = [found(40, 1)] * 5 + [found(0, 1)] * 7
    scores = score_object("clip", 1, masks, true)
    assert scores.j_in_sight == pytest.approx(4 / 9)
    assert scores.late_j == 0


def test_never_visible_object_has_no_j_in_sight() -> None:
    scores = score_object("clip", 1, [found(0, -1)] * 4, [columns(40)] + [columns(0)] * 3)
    assert (scores.j, scores.j_in_sight, scores.late_j, scores.sight) == (1, None, None, 1)
    row = clips_row("clips", [scores, ObjectScores("b", 1, 0.5, 0.5, 0.4, 0.6, 1.0)])
    assert row.figures["j"] == 0.75
    assert row.figures["j_in_sight"] == 0.4
    assert row.figures["kept"] == 1


def test_one_table_for_images_and_clips() -> None:
    rows = [
        images_row("images", [ImageScores("a", 0.5, 0.7), ImageScores("b", 0.7, 0.9)]),
        clips_row("clips", [ObjectScores("c", 1, 0.5, 0.6, 0.7, 0.4, 0.9)]),
    ]
    table = make_table(rows, "micro/1")
    titles = [str(column.header) for column in table.columns]
    means = ["J&F", "J", "F", "J in sight", "kept", "sight"]
    assert titles == ["", "objects", "IoU, 1 click", "IoU, box", *means]
    cells = [list(column.cells) for column in table.columns]
    assert [column[0] for column in cells] == ["images", "2", "0.600", "0.800", "", "", "", "", "", ""]
    assert [column[1] for column in cells][-2:] == ["0.000", "0.900"]


def test_found_objects_are_matched_one_to_one() -> None:
    """The best sum of IoUs, not the best single one; a found object beyond the true ones is false."""
    true, found = [columns(40), columns(80)], [columns(60), columns(40), columns(0)]
    ious = matched_ious([[region_similarity(f, t) for f in found] for t in true])
    assert ious == pytest.approx([1.0, 0.75])
    assert matched_ious([[], []]) == [0.0, 0.0]
    row = concepts_row("images", [ConceptScores("a", ious, 3), ConceptScores("b", [0.4], 0)])
    assert row.count == 3
    assert row.figures == pytest.approx({"iou": (1 + 0.75 + 0.4) / 3, "precision": 2 / 3, "recall": 2 / 3})
    titles = [str(column.header) for column in make_table([row], "sam3/1").columns]
    assert titles == ["", "objects", "IoU", "precision", "recall"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(3):
        Image.new("RGB", (80, 60)).save(tmp_path / "images" / f"{index}.jpg")
        Image.fromarray(columns(40).astype(np.uint8) * 255).save(tmp_path / "masks" / f"{index}.png")
    return tmp_path


def test_images_without_a_mask_are_skipped(folder: Path) -> None:
    (folder / "masks" / "1.png").unlink()
    frames = read_folder(folder / "images", folder / "masks")
    assert [frame.name for frame in frames] == ["0", "2"]
    assert frames[0].objects() == [1]
    assert np.array_equal(frames[0].mask(1), columns(40))


def test_frames_are_in_the_order_of_their_numbers(folder: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        for index in (9, 10, 11):
            shutil.copy(folder / kind / f"0.{suffix}", folder / kind / f"{index}.{suffix}")
    frames = read_folder(folder / "images", folder / "masks")
    assert [frame.name for frame in frames] == ["0", "1", "2", "9", "10", "11"]
    assert frames[0].labels.dtype == np.uint8, "thousands of masks fit into memory"


def test_palette_masks_are_read_as_indices(tmp_path: Path) -> None:
    labels = columns(40).astype(np.uint8) * 7
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0] * 8)
    image.save(tmp_path / "mask.png")
    assert np.array_equal(read_labels(tmp_path / "mask.png"), labels)


def test_exif_orientation_is_applied(folder: Path) -> None:
    """The services apply the EXIF orientation too, and masks match the rotated image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 80)).save(folder / "images" / "1.jpg", exif=exif)
    assert len(read_folder(folder / "images", folder / "masks")) == 3


def test_folder_errors_name_the_files(folder: Path) -> None:
    Image.new("L", (10, 10)).save(folder / "masks" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png and 1\.jpg differ in size"):
        read_folder(folder / "images", folder / "masks")
    shades = np.tile(np.arange(80, dtype=np.uint8), (60, 1))
    Image.fromarray(shades).save(folder / "masks" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png: the mask has 80 values, 0, 1, .*: these are no ids"):
        read_folder(folder / "images", folder / "masks")
    Image.fromarray(columns(40).astype(np.uint8)).save(folder / "masks" / "1.png")
    Image.new("L", (80, 60)).save(folder / "masks" / "0.jpg")
    with pytest.raises(ValueError, match=r"0\.jpg and 0\.png have the same name"):
        read_folder(folder / "images", folder / "masks")
    (folder / "none").mkdir()
    with pytest.raises(ValueError, match="no image"):
        read_folder(folder / "images", folder / "none")


def test_corrective_clicks_are_in_the_largest_wrong_region() -> None:
    true = np.zeros((60, 80), dtype=np.bool_)
    true[10:50, 10:50] = True
    missing = true.copy()
    missing[10:50, 40:50] = False
    click = corrective_click(missing, true)
    assert click.positive
    # In the middle of the band that the mask misses.
    assert 13 <= click.y < 47
    assert 43 <= click.x < 47
    beyond = true.copy()
    beyond[10:50, 50:75] = True
    beyond[12:20, 12:20] = False
    click = corrective_click(beyond, true)
    assert not click.positive
    assert 58 <= click.x < 68
    assert corrective_click(true, true) == innermost_point(true)


def test_scores_after_clicks() -> None:
    rows = [images_row("a", [ImageScores("a", 0.5, 0.7, (0.6, 0.7)), ImageScores("b", 0.7, 0.9, (0.8, 0.9))])]
    assert rows[0].figures == pytest.approx({"click": 0.6, "box": 0.8, "clicks_3": 0.8})
    assert ImageScores("a", 0.5, 0.7).after(3) is None


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 10), value, np.uint8)).save(path)


def test_sets_are_found_in_folders_of_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "JPEGImages" / name / "0.jpg", 9)
        picture(tmp_path / "Annotations" / name / "0.png", 1)
        picture(tmp_path / "clips" / name / "frames" / "0.jpg", 9)
        picture(tmp_path / "clips" / name / "masks" / "0.png", 1)
    (tmp_path / "JPEGImages" / "empty").mkdir()
    davis = find_sets(tmp_path / "JPEGImages", tmp_path / "Annotations")
    assert [one.name for one in davis] == ["a", "b"]
    ours = find_sets(tmp_path / "clips", tmp_path / "clips")
    assert [one.name for one in ours] == ["a", "b"]
    assert [frame.objects() for one in (*davis, *ours) for frame in one.read()] == [[1]] * 4
    [single] = find_sets(tmp_path / "JPEGImages" / "a", tmp_path / "Annotations" / "a")
    assert single.name == "a"
    picture(tmp_path / "JPEGImages" / "c" / "0.jpg", 9)
    with pytest.raises(ValueError, match="c: there is no folder"):
        find_sets(tmp_path / "JPEGImages", tmp_path / "Annotations")
    with pytest.raises(ValueError, match="no pictures, and no folders of pictures"):
        find_sets(tmp_path / "JPEGImages" / "empty", tmp_path)


def test_grey_masks_with_many_ids(tmp_path: Path) -> None:
    """More ids than a soft edge has values: they fill areas."""
    ids = np.zeros((100, 120), np.uint8)
    for number in range(1, 100):
        row, column = divmod(number, 10)
        ids[10 * row : 10 * row + 8, 12 * column : 12 * column + 10] = number
    Image.fromarray(ids).save(tmp_path / "grey.png")
    assert np.array_equal(read_labels(tmp_path / "grey.png"), ids)
    large = ids.astype(np.uint16) * 300
    Image.fromarray(large).save(tmp_path / "large.png")
    assert np.array_equal(read_labels(tmp_path / "large.png"), large)
    ramp = np.tile(np.arange(100, dtype=np.uint8), (60, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    with pytest.raises(ValueError, match="no ids of objects"):
        read_labels(tmp_path / "ramp.png")
