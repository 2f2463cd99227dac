"""All objects of an image without prompts, as a call and as a command."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskmesh import (
    AsyncClient,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    PolygonMask,
    RleMask,
)
from maskmesh.image_objects import FoundMask
from maskmesh.masks import BoolArray, ByteArray
from maskmesh.media.video_reader import read_frames
from tests.e2e.test_command import maskmesh
from tests.mesh import Mesh

WHEEL, FLOWER, BALL = (110, 262), (530, 185), (330, 62)


@pytest.fixture(scope="module")
def picture(clip: Path) -> ByteArray:
    return next(iter(read_frames(clip)))


def pixels(found: FoundMask) -> BoolArray:
    assert not isinstance(found.mask, LowResLogits)
    return found.mask.decode()


async def test_the_objects_of_the_sample_are_found(client: AsyncClient, picture: ByteArray) -> None:
    found = await client.segment_everything(picture)
    assert (found.width, found.height) == (640, 360)
    assert [mask.area for mask in found.masks] == sorted((m.area for m in found.masks), reverse=True)
    for x, y in (WHEEL, FLOWER, BALL):
        assert any(pixels(mask)[y, x] for mask in found.masks), (x, y)
    for mask in found.masks:
        assert pixels(mask).sum() == mask.area
        assert mask.predicted_iou >= 0.8 - 1e-6
        assert mask.stability >= 0.95 - 1e-6
        rows, columns = np.nonzero(pixels(mask))
        assert (mask.box.x0, mask.box.y0) == (columns.min(), rows.min())
    assert len(found.trace_id) == 32


async def test_masks_in_other_forms_show_the_same(client: AsyncClient, picture: ByteArray) -> None:
    exact = await client.segment_everything(picture, points_per_side=8)
    polygons = await client.segment_everything(
        picture, points_per_side=8, mask_options=MaskOptions(MaskFormat.POLYGONS)
    )
    small = await client.segment_everything(
        picture, points_per_side=8, mask_options=MaskOptions(MaskFormat.PACKED_BITS, MaskSpace.MODEL)
    )
    assert exact.masks
    # One point may give several masks.
    others = {(mask.point, mask.predicted_iou): mask for mask in polygons.masks}
    for mask in exact.masks:
        other = others[mask.point, mask.predicted_iou]
        assert isinstance(other.mask, PolygonMask)
        assert np.array_equal(pixels(other), pixels(mask))
    assert {pixels(mask).shape for mask in small.masks} == {(64, 64)}


async def test_limits_of_the_answer(client: AsyncClient, picture: ByteArray) -> None:
    some = await client.segment_everything(picture, points_per_side=16, min_stability=0.8)
    largest = await client.segment_everything(
        picture, points_per_side=16, min_stability=0.8, min_area=some.masks[0].area
    )
    assert [mask.area for mask in largest.masks] == [some.masks[0].area]
    best = await client.segment_everything(picture, points_per_side=16, min_stability=0.8, max_masks=1)
    assert best.masks[0].predicted_iou == max(mask.predicted_iou for mask in some.masks)
    # Small masks do not take the places of large ones.
    large = some.masks[: len(some.masks) // 2]
    found = await client.segment_everything(
        picture, points_per_side=16, min_stability=0.8, min_area=large[-1].area, max_masks=len(large)
    )
    assert [mask.area for mask in found.masks] == [mask.area for mask in large]


async def test_parts_of_the_image_find_small_objects(client: AsyncClient, picture: ByteArray) -> None:
    # The picture takes a quarter of a larger one, so its objects are small there.
    large = np.full((720, 1280, 3), 90, dtype=np.uint8)
    large[300:660, 600:1240] = picture
    found = await client.segment_everything(large, points_per_side=8, crop_layers=1, min_area=500)
    assert (found.width, found.height) == (1280, 720)
    x, y = FLOWER
    assert any(pixels(mask)[300 + y, 600 + x] for mask in found.masks)
    for mask in found.masks:
        assert pixels(mask).shape == (720, 1280)
        assert pixels(mask).sum() == mask.area


async def test_clicks_go_before_a_search(client: AsyncClient, picture: ByteArray) -> None:
    async with client.session() as session:
        await session.append_frames([picture])
        await session.add_prompt(0, 1, points=[WHEEL])
        searching = asyncio.ensure_future(client.segment_everything(picture, points_per_side=64))
        await asyncio.sleep(0.3)
        await session.add_prompt(0, 1, points=[WHEEL])
        assert not searching.done()
        await searching


async def test_the_command_writes_masks_that_can_be_exported(
    mesh: Mesh, picture: ByteArray, tmp_path: Path
) -> None:
    Image.fromarray(picture).save(tmp_path / "photo.png")
    _, said = await maskmesh(
        "everything", "photo.png", "--endpoint", mesh.endpoint, "-o", "found.png", "--masks", "found.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert " objects" in said
    with Image.open(tmp_path / "found.png") as drawn:
        assert drawn.size == (640, 360)
    objects = json.loads((tmp_path / "found.json").read_text())["frames"][0]["objects"]
    assert [each["obj_id"] for each in objects] == list(range(1, len(objects) + 1))
    assert RleMask.from_coco(objects[0]["segmentation"]).decode().sum() == objects[0]["area"]
    await maskmesh("export", "found.json", "--format", "coco", "-o", "coco.json", cwd=tmp_path)
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == len(objects)
