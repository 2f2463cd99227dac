"""Masks in the forms in which people have them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskmesh import LowResLogits, PngMask, Point, Prompt, RleMask
from maskmesh.client.prompts import CoordinateWarning, integer, prompt_message
from maskmesh.evaluation.truth import read_labels
from maskmesh.masks.values import binary_mask
from tests.golden import DATA, needs_data

SHAPE = (24, 32)
MASK = np.zeros(SHAPE, bool)
MASK[5:15, 8:20] = True


def png(values: np.ndarray, palette: list[int] | None = None, mode: str | None = None) -> bytes:
    image = Image.fromarray(values)
    if palette is not None:
        image = Image.fromarray(values, "P")
        image.putpalette(palette)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, "PNG")
    return file.getvalue()


def soft() -> np.ndarray:
    values: np.ndarray = (3 + 247 * MASK).astype(np.uint8)
    values[5, 8:20] = range(100, 220, 10)
    values[6, 8:20] = range(130, 250, 10)
    values[0, 0] = 255
    return values


def cut_out(colour: tuple[int, int, int]) -> Image.Image:
    """An object on a transparent ground, all of one colour."""
    image = Image.new("RGBA", SHAPE[::-1], (*colour, 0))
    image.putalpha(Image.fromarray(MASK.astype(np.uint8) * 255))
    return image


FORMS: dict[str, Callable[[], Any]] = {
    "bool": lambda: MASK,
    "0 and 1": lambda: MASK.astype(np.uint8),
    "0 and 255": lambda: MASK.astype(np.uint8) * 255,
    "0 and 128": lambda: MASK.astype(np.uint8) * 128,
    "int64": lambda: MASK.astype(np.int64),
    "an id of 16 bits": lambda: MASK.astype(np.uint16) * 26001,
    "0 and 65535": lambda: MASK.astype(np.uint16) * 65535,
    "float32": lambda: MASK.astype(np.float32),
    "float64": lambda: MASK.astype(np.float64),
    "float16": lambda: MASK.astype(np.float16),
    "a list": lambda: MASK.astype(int).tolist(),
    "a leading dimension": lambda: MASK[None],
    "a trailing dimension": lambda: MASK[..., None].astype(np.uint8),
    "Fortran order": lambda: np.asfortranarray(MASK),
    "Pillow 1": lambda: Image.fromarray(MASK),
    "Pillow L": lambda: Image.fromarray(MASK.astype(np.uint8) * 255),
    "Pillow RGB": lambda: Image.fromarray(MASK.astype(np.uint8) * 255).convert("RGB"),
    "Pillow RGBA": lambda: Image.fromarray(MASK.astype(np.uint8) * 255).convert("RGBA"),
    "Pillow red": lambda: Image.fromarray(MASK[..., None] * np.array([128, 0, 0], np.uint8)),
    "float 0 and 255": lambda: MASK * 255.0,
    "bytes of a PNG file": lambda: png(MASK.astype(np.uint8)),
    "a tensor": lambda: torch.from_numpy(MASK),
    "a tensor of bfloat16": lambda: torch.from_numpy(MASK).to(torch.bfloat16),
    "a tensor with a gradient": lambda: torch.from_numpy(MASK).float().requires_grad_(),
    "Pillow cut-out": lambda: cut_out((255, 0, 0)),
    "Pillow black cut-out": lambda: cut_out((0, 0, 0)),
    "a palette with white first": lambda: Image.open(
        io.BytesIO(png((~MASK).astype(np.uint8), [255, 255, 255, 0, 0, 0]))
    ),
    "Pillow 16 bits": lambda: Image.fromarray(MASK.astype(np.uint16) * 65535),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_object(form: str) -> None:
    np.testing.assert_array_equal(binary_mask(FORMS[form]()), MASK)
    prompt = Prompt.of(mask=FORMS[form]())
    assert isinstance(prompt.mask, RleMask)
    np.testing.assert_array_equal(prompt.mask.decode(), MASK)


PNGS = {
    "0 and 255": lambda: png(MASK.astype(np.uint8) * 255),
    "0 and 1": lambda: png(MASK.astype(np.uint8)),
    "a palette, 1 dark red": lambda: png(MASK.astype(np.uint8), [0, 0, 0, 128, 0, 0]),
    "a palette, 7": lambda: png(MASK.astype(np.uint8) * 7, [0, 0, 0] * 8),
    "one bit": lambda: png(MASK.astype(np.uint8) * 255, mode="1"),
    "RGBA": lambda: png(MASK.astype(np.uint8) * 255, mode="RGBA"),
    "16 bits": lambda: png(MASK.astype(np.uint16) * 65535),
    "an id of 16 bits": lambda: png(MASK.astype(np.uint16) * 26001),
}


@pytest.mark.parametrize("form", PNGS)
def test_every_png_is_the_object(form: str) -> None:
    np.testing.assert_array_equal(PngMask(*SHAPE, PNGS[form]()).decode(), MASK)


def test_soft_edges_are_cut_in_the_middle() -> None:
    expected = soft() > 127
    np.testing.assert_array_equal(binary_mask(soft()), expected)
    np.testing.assert_array_equal(PngMask(*SHAPE, png(soft())).decode(), expected)


def two_ids(first: int = 1, second: int = 2, kind: Any = np.uint8) -> np.ndarray:
    values: np.ndarray = MASK.astype(kind) * first
    values[18:22, 4:9] = second
    return values


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (two_ids(), "several objects, 1, 2: pass mask == 1"),
        (two_ids(26001, 26002, np.uint16), "several objects, 26001, 26002"),
        (Image.fromarray(two_ids()), "several objects"),
        (MASK.astype(np.float32) * 0.7, None),
        (np.zeros((2, 3, 4), bool), r"a mask is \[height, width\], got \[2, 3, 4\]"),
        (MASK.astype(np.complex64), "not values of type complex64"),
        (np.array([["a"]]), "not values of type"),
        (np.arange(1200).reshape(30, 40), "no ids of objects"),
        (np.full((4, 4), -3), None),
    ],
)
def test_other_masks_are_refused_or_logits(mask: Any, message: str | None) -> None:
    if message is not None:
        with pytest.raises(ValueError, match=message):
            Prompt.of(mask=mask)
    elif mask.dtype.kind == "f":
        assert isinstance(Prompt.of(mask=mask).mask, LowResLogits)
    else:
        assert binary_mask(mask).all()


def test_png_of_two_objects_names_them() -> None:
    with pytest.raises(ValueError, match="several objects, 1, 2"):
        PngMask(*SHAPE, png(two_ids())).decode()
    with pytest.raises(ValueError, match="the file is 32 x 24"):
        PngMask(9, 9, PNGS["0 and 1"]()).decode()
    with pytest.raises(ValueError, match="the file is 0 x 0"):
        PngMask(*SHAPE, b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (MASK.astype(np.uint8) * 255, [1]),
        (MASK.astype(np.uint8), [1]),
        (two_ids(), [1, 2]),
        (two_ids(26001, 26002, np.uint16), [26001, 26002]),
        (soft(), [1]),
        (MASK[..., None] * np.array([128, 0, 0], np.uint8), [1]),
    ],
)
def test_labels_of_a_folder(tmp_path: Path, values: np.ndarray, ids: list[int]) -> None:
    Image.fromarray(values).save(tmp_path / "mask.png")
    labels = read_labels(tmp_path / "mask.png")
    assert sorted(set(labels.ravel().tolist()) - {0}) == ids


def test_plain_values_of_a_prompt() -> None:
    prompt = Prompt(points=[(40, 120), (1, 2, 0)], box=(1, 2, 3, 4))  # type: ignore[list-item, arg-type]
    assert [(p.x, p.y, p.positive) for p in prompt.points] == [(40, 120, True), (1, 2, False)]
    assert prompt.box is not None
    assert prompt.box.x1 == 3
    assert Prompt.of(points=np.array([[40, 120]])).points == ((Point(40, 120)),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "points",
    [(40, 120), np.array([40, 120]), [(None, 1)], [(10**400, 120)], "40,120", ["40"], [(1, 2, 3)], [(1,)], 7],
)
def test_points_of_another_form_are_named(points: Any) -> None:
    with pytest.raises(ValueError, match=r"a point is x, y .* got|a list of points, got"):
        Prompt.of(points=points)


@pytest.mark.parametrize("box", ["20,100,60,140", (1, 2, 3), 5, (1, 2, 3, None)])
def test_boxes_of_another_form_are_named(box: Any) -> None:
    with pytest.raises(ValueError, match="a box is x0, y0, x1, y1, got"):
        Prompt.of(box=box)


@pytest.mark.parametrize("value", [None, "1", 1.5])
def test_ids_of_another_form_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match="obj_id is an integer, got"):
        integer("obj_id", value)
    assert integer("obj_id", np.int64(7)) == 7


def test_fractions_are_warned_of() -> None:
    with pytest.warns(CoordinateWarning, match="coordinates are pixels, not fractions"):
        prompt_message(points=[(0.52, 0.41)])
    with pytest.warns(CoordinateWarning):
        prompt_message(box=(0.1, 0.1, 1.0, 1.0))
    prompt_message(points=[(1, 1)])
    prompt_message(points=[(0.5, 20)])


@needs_data
@pytest.mark.parametrize("name", ["davis-palette-mask.png", "mask-0-1.png"])
def test_masks_of_other_programs(name: str) -> None:
    mask = PngMask(240, 320, (DATA / "faults" / name).read_bytes()).decode()
    rows, columns = np.nonzero(mask)
    assert (round(float(columns.mean())), round(float(rows.mean()))) == (40, 120)


@needs_data
def test_ids_of_other_programs() -> None:
    folder = DATA / "faults"
    assert set(read_labels(folder / "mask-ids-26001-26002.png").ravel().tolist()) == {0, 26001, 26002}
    assert set(read_labels(folder / "mask-ids-1-2.png").ravel().tolist()) == {0, 1, 2}
