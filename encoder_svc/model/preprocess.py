"""Preprocessing: converts pixels to the model's input on the model's device.

Increment ``maskmesh.nn.loading.PREPROCESS_VERSION`` if the result of :func:`preprocess` changes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder_svc.model.config import IMAGENET, Normalization


def preprocess(
    pixels: Tensor,
    image_size: int,
    device: torch.device,
    dtype: torch.dtype,
    normalization: Normalization = IMAGENET,
) -> Tensor:
    """Resize an image to the square input of the model, and normalise it.

    pixels: [H, W, 3], uint8, RGB, on the host; moved to ``device`` and resized there.
    Returns [1, 3, image_size, image_size] in ``dtype``.  Resampling is bilinear with antialiasing and does
    not keep the aspect ratio, as in the training of SAM 2 and SAM 3.  An image of the right size is not
    resampled.
    """
    image = pixels.to(device, non_blocking=True).permute(2, 0, 1).unsqueeze(0).float()
    if image.shape[-2:] != (image_size, image_size):
        image = F.interpolate(image, size=(image_size, image_size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in normalization)
    return ((image / 255 - mean) / std).to(dtype)
