"""Masks in every format that a client can request, through the whole mesh."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from maskmesh import (
    AsyncClient,
    LowResLogits,
    MaskFormat,
    MaskOptions,
    MaskSpace,
    ObjectMask,
    PackedMask,
    PngMask,
    Prompt,
    RleMask,
)
from maskmesh.masks import BoolArray
from maskmesh.media.video_reader import read_frames

WHEEL, FLOWER = (110, 262), (530, 185)
WIDTH, HEIGHT = 640, 360
BINARY_FORMS = {
    MaskFormat.COCO_RLE: RleMask,
    MaskFormat.PNG: PngMask,
    MaskFormat.PACKED_BITS: PackedMask,
}


def pixels(found: ObjectMask) -> BoolArray:
    assert not isinstance(found.mask, LowResLogits)
    return found.mask.decode()


async def tracked(
    client: AsyncClient, clip: Path, options: MaskOptions, *clicks: tuple[float, float]
) -> Mapping[int, ObjectMask]:
    """The masks on the third frame; objects 1, 2, ... have one click each on the first frame."""
    async with client.session() as session:
        await session.append_video(clip)
        for obj_id, where in enumerate(clicks or (WHEEL, FLOWER), 1):
            await session.add_prompt(0, obj_id, points=[where])
        frames = [f async for f in session.propagate(max_frames=3, mask_options=options)]
    return frames[-1].objects


@pytest.mark.parametrize("form", BINARY_FORMS)
async def test_all_formats_give_the_same_mask(client: AsyncClient, clip: Path, form: MaskFormat) -> None:
    plain = await tracked(client, clip, MaskOptions())
    formed = await tracked(client, clip, MaskOptions(form))
    for obj_id, expected in plain.items():
        found = formed[obj_id]
        assert isinstance(found.mask, BINARY_FORMS[form])
        assert pixels(found).shape == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(pixels(found), pixels(expected))
        assert (found.predicted_iou, found.object_score_logit, found.box) == (
            expected.predicted_iou, expected.object_score_logit, expected.box,
        )  # fmt: skip


async def test_box_is_the_tight_bound_of_the_mask(client: AsyncClient, clip: Path) -> None:
    for found in (await tracked(client, clip, MaskOptions())).values():
        rows, columns = np.nonzero(pixels(found))
        assert found.box is not None
        assert (found.box.x0, found.box.y0) == (columns.min(), rows.min())
        assert (found.box.x1, found.box.y1) == (columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("form", BINARY_FORMS)
async def test_model_space_mask_is_the_positive_logits(
    client: AsyncClient, clip: Path, form: MaskFormat
) -> None:
    logits = await tracked(client, clip, MaskOptions(MaskFormat.LOW_RES_LOGITS))
    small = await tracked(client, clip, MaskOptions(form, MaskSpace.MODEL))
    full = await tracked(client, clip, MaskOptions(form))
    for obj_id, found in small.items():
        low = logits[obj_id].mask
        assert isinstance(low, LowResLogits)
        np.testing.assert_array_equal(pixels(found), low.values > 0)
        assert found.box == logits[obj_id].box
        # Boxes are in frame pixels in either mask space, and differ by at most two low-resolution pixels.
        ours, whole = found.box, full[obj_id].box
        assert ours is not None
        assert whole is not None
        side = low.values.shape[0]
        assert ours.x0 == pytest.approx(whole.x0, abs=2 * WIDTH / side)
        assert ours.y1 == pytest.approx(whole.y1, abs=2 * HEIGHT / side)


async def test_non_overlapping_masks(client: AsyncClient, clip: Path) -> None:
    # Two clicks on the same thing give objects that overlap nearly everywhere.
    near = (WHEEL[0] + 4, WHEEL[1] + 3)
    both = await tracked(client, clip, MaskOptions(), WHEEL, near)
    assert (pixels(both[1]) & pixels(both[2])).any()
    for space in MaskSpace:
        apart = await tracked(client, clip, MaskOptions(space=space, non_overlapping=True), WHEEL, near)
        assert not (pixels(apart[1]) & pixels(apart[2])).any()
        if space is MaskSpace.IMAGE:
            either = pixels(both[1]) | pixels(both[2])
            np.testing.assert_array_equal(pixels(apart[1]) | pixels(apart[2]), either)
    # The option does not affect tracking.
    again = await tracked(client, clip, MaskOptions(), WHEEL, near)
    assert again == both


async def test_prompt_response_excludes_pixels_of_other_objects(client: AsyncClient, clip: Path) -> None:
    exclusive = MaskOptions(non_overlapping=True)
    near = (WHEEL[0] + 4, WHEEL[1] + 3)
    async with client.session() as session:
        await session.append_video(clip)
        alone = await session.add_prompt(0, 1, points=[WHEEL], mask_options=exclusive)
        assert alone.objects == (await session.add_prompt(0, 1, points=[WHEEL], clear_previous=True)).objects
        second = await session.add_prompt(0, 2, points=[near], mask_options=exclusive)
        assert list(second.objects) == [2]
        (both,) = [f async for f in session.propagate(max_frames=1, mask_options=exclusive)]
        assert second.objects[2] == both.objects[2]
        (whole,) = [f async for f in session.propagate(max_frames=1)]
    assert pixels(both.objects[2]).sum() < pixels(whole.objects[2]).sum()


async def test_formats_of_segment_image(client: AsyncClient, clip: Path) -> None:
    image = next(read_frames(clip))
    prompts = {1: Prompt.of(points=[WHEEL]), 2: Prompt.of(points=[FLOWER])}
    plain = await client.segment_image(image, prompts)
    for form, kind in BINARY_FORMS.items():
        found = await client.segment_image(image, prompts, mask_options=MaskOptions(form))
        for obj_id, (mask,) in found.objects.items():
            assert isinstance(mask.mask, kind)
            np.testing.assert_array_equal(pixels(mask), pixels(plain.objects[obj_id][0]))
