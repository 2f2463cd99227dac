"""Convert weights of transformers' ``Sam2VideoModel`` to the names of the official checkpoints.

transformers uses other names for multi-layer perceptrons, fuser blocks and norms; the values are the same.
"""

import re

from torch import Tensor, nn

# Patterns of names in transformers -> names in the official checkpoints, applied in this order.
RENAMES = [
    (r"^vision_encoder\.backbone\.patch_embed\.projection\.", "image_encoder.trunk.patch_embed.proj."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding",
     "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.mask_embed\.conv1", "sam_prompt_encoder.mask_downscaling.0"),
    (r"^prompt_encoder\.mask_embed\.layer_norm1", "sam_prompt_encoder.mask_downscaling.1"),
    (r"^prompt_encoder\.mask_embed\.conv2", "sam_prompt_encoder.mask_downscaling.3"),
    (r"^prompt_encoder\.mask_embed\.layer_norm2", "sam_prompt_encoder.mask_downscaling.4"),
    (r"^prompt_encoder\.mask_embed\.conv3", "sam_prompt_encoder.mask_downscaling.6"),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.upscale_conv1", "sam_mask_decoder.output_upscaling.0"),
    (r"^mask_decoder\.upscale_layer_norm", "sam_mask_decoder.output_upscaling.1"),
    (r"^mask_decoder\.upscale_conv2", "sam_mask_decoder.output_upscaling.3"),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"^memory_encoder\.mask_downsampler\.final_conv", "memory_encoder.mask_downsampler.encoder.12"),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"memory_fuser\.layers\.(\d)\.scale", r"fuser.layers.\1.gamma"),
    (r"memory_fuser\.", "fuser."),
    (r"depthwise_conv", "dwconv"),
    (r"pointwise_conv", "pwconv"),
    (r"trunk\.(.*)layer_norm(\d)", r"trunk.\1norm\2"),
    (r"fuser(.*)layer_norm", r"fuser\1norm"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"memory_attention\.layer_norm", "memory_attention.norm"),
    (r"layer_norm(\d)", r"norm\1"),
    (r"o_proj", "out_proj"),
    (r"windowed_positional|pos_embed_windowed", "pos_embed_window"),
]  # fmt: skip

# Depths of the perceptrons, whose first and last layers have special names in transformers.
MLP_DEPTHS = {
    "output_hypernetworks_mlps": 3,
    "iou_prediction_head": 3,
    "pred_obj_score_head": 3,
    "obj_ptr_proj": 3,
    "mlp": 2,
}


def official_name(name: str) -> str:
    """The name of a parameter of ``Sam2VideoModel`` in the official checkpoints."""
    downsampler = re.match(r"memory_encoder\.mask_downsampler\.layers\.(\d)\.(\w+)\.(\w+)", name)
    if downsampler:
        layer, part, parameter = downsampler.groups()
        index = 3 * int(layer) + (part == "layer_norm")
        return f"memory_encoder.mask_downsampler.encoder.{index}.{parameter}"
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    for mlp, depth in MLP_DEPTHS.items():
        if f"{mlp}." not in name:
            continue
        if "layers." in name.split(f"{mlp}.", 1)[1]:
            # transformers counts hidden layers from 0, after the first layer.
            name = re.sub(rf"({mlp}\.(?:\d\.)?layers)\.0\.", r"\1.1.", name)
        name = re.sub(r"\.proj_in\.", ".layers.0.", name)
        name = re.sub(r"\.proj_out\.", f".layers.{depth - 1}.", name)
        break
    return name


def to_checkpoint(model: nn.Module) -> dict[str, Tensor]:
    """The state of a ``Sam2VideoModel`` as a whole official checkpoint."""
    state: dict[str, Tensor] = {}
    points: Tensor | None = None
    for name, value in model.state_dict().items():
        if name == "prompt_encoder.point_embed.weight":
            points = value
        elif not name.startswith("shared_image_embedding"):  # equals the prompt encoder's
            state[official_name(name)] = value.contiguous()
    assert points is not None
    for label in range(4):
        state[f"sam_prompt_encoder.point_embeddings.{label}.weight"] = points[label : label + 1].clone()
    return state
