"""Evaluation of erasing on clips with holes behind which the truth is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from maskmesh.client.async_client import AsyncClient
from maskmesh.erasing import EraseOptions
from maskmesh.evaluation.holes import painted
from maskmesh.evaluation.image_metrics import filled_alone, hole_psnr, hole_ssim, warping_error
from maskmesh.masks import BoolArray, ByteArray, RleMask

# The model's mask of a prompted mask has the model's resolution: so much is added to the hole to cover it.
DILATION = 4


@dataclass(frozen=True, slots=True)
class EraseScores:
    """Scores of one clip: inside the holes, averaged over its frames, and those of filling each frame alone.

    PSNR is in dB, ``flicker`` the warping error in levels of colour; ``invented`` is the share of erased
    pixels that no frame has shown.
    """

    clip: str
    psnr: float
    psnr_alone: float
    ssim: float
    ssim_alone: float
    flicker: float
    flicker_alone: float
    invented: float


async def evaluate_erasing(
    client: AsyncClient,
    clip: str,
    frames: Sequence[ByteArray],
    holes: Sequence[BoolArray],
    options: EraseOptions,
    on_frame: Callable[[int], None],
) -> EraseScores:
    """Erase the holes of a clip: frames are [H, W, 3], holes [H, W] and painted grey before.

    ``on_frame`` is called with the number of frames done.
    """
    inputs = [painted(frame, hole) for frame, hole in zip(frames, holes, strict=True)]
    found: list[ByteArray] = []
    propagated = invented = 0
    async with client.session() as session:
        await session.append_frames(inputs)
        for index, hole in enumerate(holes):
            if hole.any():
                await session.add_prompt(index, 1, mask=RleMask.encode(hole))
        first = next(index for index, hole in enumerate(holes) if hole.any())
        found += inputs[:first]
        async for frame in session.erase(options):
            found.append(frame.erased.decode())
            propagated += frame.erased.propagated_pixels
            invented += frame.erased.invented_pixels
            on_frame(len(found))
    alone = [filled_alone(pixels, hole) for pixels, hole in zip(inputs, holes, strict=True)]
    scored = [index for index, hole in enumerate(holes) if hole.any()]

    def mean(metric: Callable[[ByteArray, ByteArray, BoolArray], float], of: Sequence[ByteArray]) -> float:
        return float(np.mean([metric(of[i], frames[i], holes[i]) for i in scored]))

    return EraseScores(
        clip,
        psnr=mean(hole_psnr, found),
        psnr_alone=mean(hole_psnr, alone),
        ssim=mean(hole_ssim, found),
        ssim_alone=mean(hole_ssim, alone),
        flicker=warping_error(found, frames, holes),
        flicker_alone=warping_error(alone, frames, holes),
        invented=invented / max(propagated + invented, 1),
    )
