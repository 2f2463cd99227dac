"""From pixels to the network's input, on the device that runs the network."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Part of the model id: an embedding made by another version of this file is another embedding.
PREPROCESS_VERSION = 1

# Statistics of ImageNet, which SAM 2 was trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def preprocess(pixels: Tensor, image_size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Resize to the square that the model sees, and normalise.

    pixels: [H, W, 3], uint8, RGB, on the host (it is moved first, and resized on ``device``).
    Returns [1, 3, image_size, image_size] in ``dtype``.  Bilinear with antialiasing; the aspect ratio is
    not kept, as SAM 2 was trained.  An image that already has the size is not resampled.
    """
    image = pixels.to(device, non_blocking=True).permute(2, 0, 1).unsqueeze(0).float()
    if image.shape[-2:] != (image_size, image_size):
        image = F.interpolate(image, size=(image_size, image_size), mode="bilinear", antialias=True)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    return ((image / 255 - mean) / std).to(dtype)
