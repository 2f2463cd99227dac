"""Frames of live streams without the objects."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from maskmesh import AsyncClient, EraseOptions, InvalidRequest, LiveResult, MaskFormat, MaskOptions, telemetry
from maskmesh.masks import ByteArray, RleMask
from tests.e2e.test_erase import WHEEL, pictures


async def live(client: AsyncClient, sources: Sequence[ByteArray]) -> list[LiveResult]:
    results: list[LiveResult] = []
    async with client.stream(erase=EraseOptions(image_format="raw")) as stream:
        await stream.send(sources[0])
        results.append(await anext(aiter(stream)))
        await stream.add_prompt(1, points=[WHEEL])
        for picture in sources[1:]:
            await stream.send(picture)
        await stream.finish()
        results += [result async for result in stream]
    return results


async def test_live_frames_are_erased(client: AsyncClient, clip: Path) -> None:
    sources = pictures(clip, 5)
    results = await live(client, sources)
    assert len(results) == 5
    first = results[0].erased
    assert first is not None
    assert first.is_untouched
    assert np.array_equal(first.decode(), sources[0])
    for result, source in zip(results[1:], sources[1:], strict=True):
        frame, image = result.frame, result.erased
        assert image is not None
        mask = frame.objects[1].mask
        assert isinstance(mask, RleMask)
        changed = (image.decode() != source).any(axis=2)
        assert changed[mask.decode()].mean() > 0.8
        assert telemetry.ERASE_FLOW in frame.stage_seconds


async def test_live_options_are_checked(client: AsyncClient) -> None:
    for options, masks, field in (
        (EraseOptions(look_ahead=2), MaskOptions(), "config.erase.look_ahead"),
        (EraseOptions(), MaskOptions(MaskFormat.LOW_RES_LOGITS), "config.mask_options"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            async with client.stream(erase=options, mask_options=masks):
                pass
        assert caught.value.metadata["field"] == field
