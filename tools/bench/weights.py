"""One set of random weights of sam2.1-tiny, for transformers and for the mesh."""

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel

SEED = 0
IMAGE_SIZE = 1024

# Objects stay in sight, so that every frame ends in a mask.
SCORE_BIAS = 4.0


def random_model() -> Sam2VideoModel:
    """The model at its default size, with weights that are equal in every process."""
    torch.manual_seed(SEED)
    model: Sam2VideoModel = Sam2VideoModel(Sam2VideoConfig()).eval().requires_grad_(False)
    model.shared_image_embedding = model.prompt_encoder.shared_embedding  # one matrix in checkpoints
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Its own initialisation leaves embeddings at zero and layer scales at 1e-6.
            scale = 0.1 if "embed" in name or "scale" in name or "token" in name else 0.01
            parameter.add_(torch.randn_like(parameter) * scale)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(SCORE_BIAS)
    return model
