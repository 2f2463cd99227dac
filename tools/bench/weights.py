"""Random weights of sam2.1-tiny, for transformers and the mesh."""

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

SEED = 0
IMAGE_SIZE = 1024

# Bias of the object score, so that objects stay visible and every frame gives a mask.
SCORE_BIAS = 4.0


def random_model() -> Sam2VideoModel:
    """The model at its default size; the weights are equal in every process."""
    torch.manual_seed(SEED)
    model: Sam2VideoModel = Sam2VideoModel(Sam2VideoConfig()).eval().requires_grad_(False)
    model.shared_image_embedding = model.prompt_encoder.shared_embedding  # shared in checkpoints
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The initialisation of transformers sets embeddings to zero and layer scales to 1e-6.
            scale = 0.1 if "embed" in name or "scale" in name or "token" in name else 0.01
            parameter.add_(torch.randn_like(parameter) * scale)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(SCORE_BIAS)
    return model
