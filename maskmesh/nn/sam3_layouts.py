"""The two layouts in which checkpoints of SAM 3 are published, and their conversion to one.

The services use the names of the official ``sam3.pt``, without the parts that no stage reads and that the
other layout does not have: the class token's position, rotary angles, and the projections of points.  The
names of the other layout, ``model.safetensors`` on Hugging Face, are those of the models in transformers.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

_TRUNK = "detector.backbone.vision_backbone.trunk."
_POSITIONS = f"{_TRUNK}pos_embed"
_POINT = "tracker.sam_prompt_encoder.point_embeddings."

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# Renames from the official layout, applied in this order; the first that matches a prefix is final.
_PREFIXES = (
    (_TRUNK + "blocks.", "detector_model.vision_encoder.backbone.layers."),
    (_TRUNK + "ln_pre.", "detector_model.vision_encoder.backbone.layer_norm."),
    (_POSITIONS, "detector_model.vision_encoder.backbone.embeddings.position_embeddings"),
    (
        _TRUNK + "patch_embed.proj.",
        "detector_model.vision_encoder.backbone.embeddings.patch_embeddings.projection.",
    ),
    ("detector.backbone.vision_backbone.convs.", "detector_model.vision_encoder.neck.fpn_layers."),
    ("detector.backbone.vision_backbone.sam2_convs.", "tracker_neck.fpn_layers."),
    (
        "detector.backbone.language_backbone.encoder.transformer.resblocks.",
        "detector_model.text_encoder.text_model.encoder.layers.",
    ),
    (
        "detector.backbone.language_backbone.encoder.positional_embedding",
        "detector_model.text_encoder.text_model.embeddings.position_embedding.weight",
    ),
    (
        "detector.backbone.language_backbone.encoder.text_projection",
        "detector_model.text_encoder.text_projection.weight",
    ),
    (
        "detector.backbone.language_backbone.encoder.token_embedding.",
        "detector_model.text_encoder.text_model.embeddings.token_embedding.",
    ),
    (
        "detector.backbone.language_backbone.encoder.ln_final.",
        "detector_model.text_encoder.text_model.final_layer_norm.",
    ),
    ("detector.backbone.language_backbone.resizer.", "detector_model.text_projection."),
    ("detector.geometry_encoder.encode.", "detector_model.geometry_encoder.layers."),
    ("detector.geometry_encoder.encode_norm.", "detector_model.geometry_encoder.output_layer_norm."),
    ("detector.geometry_encoder.norm.", "detector_model.geometry_encoder.prompt_layer_norm."),
    ("detector.geometry_encoder.img_pre_norm.", "detector_model.geometry_encoder.vision_layer_norm."),
    ("detector.geometry_encoder.", "detector_model.geometry_encoder."),
    ("detector.transformer.encoder.", "detector_model.detr_encoder."),
    ("detector.transformer.decoder.norm.", "detector_model.detr_decoder.output_layer_norm."),
    ("detector.transformer.decoder.bbox_embed.", "detector_model.detr_decoder.box_head."),
    ("detector.transformer.decoder.boxRPB_embed_", "detector_model.detr_decoder.box_rpb_embed_"),
    ("detector.transformer.decoder.presence_token_head.", "detector_model.detr_decoder.presence_head."),
    (
        "detector.transformer.decoder.presence_token_out_norm.",
        "detector_model.detr_decoder.presence_layer_norm.",
    ),
    ("detector.transformer.decoder.", "detector_model.detr_decoder."),
    ("detector.segmentation_head.mask_predictor.mask_embed.", "detector_model.mask_decoder.mask_embedder."),
    ("detector.segmentation_head.cross_attend_prompt.", "detector_model.mask_decoder.prompt_cross_attn."),
    ("detector.segmentation_head.cross_attn_norm.", "detector_model.mask_decoder.prompt_cross_attn_norm."),
    ("detector.segmentation_head.semantic_seg_head.", "detector_model.mask_decoder.semantic_projection."),
    ("detector.segmentation_head.instance_seg_head.", "detector_model.mask_decoder.instance_projection."),
    ("detector.segmentation_head.", "detector_model.mask_decoder."),
    (
        "detector.dot_prod_scoring.prompt_mlp.out_norm.",
        "detector_model.dot_product_scoring.text_mlp_out_norm.",
    ),
    ("detector.dot_prod_scoring.prompt_mlp.", "detector_model.dot_product_scoring.text_mlp."),
    ("detector.dot_prod_scoring.prompt_proj.", "detector_model.dot_product_scoring.text_proj."),
    ("detector.dot_prod_scoring.hs_proj.", "detector_model.dot_product_scoring.query_proj."),
    ("tracker.maskmem_tpos_enc", "tracker_model.memory_temporal_positional_encoding"),
    ("tracker.no_mem_embed", "tracker_model.no_memory_embedding"),
    ("tracker.no_mem_pos_enc", "tracker_model.no_memory_positional_encoding"),
    ("tracker.no_obj_ptr", "tracker_model.no_object_pointer"),
    ("tracker.no_obj_embed_spatial", "tracker_model.occlusion_spatial_embedding_parameter"),
    ("tracker.transformer.encoder.norm.", "tracker_model.memory_attention.layer_norm."),
    ("tracker.transformer.encoder.", "tracker_model.memory_attention."),
    ("tracker.maskmem_backbone.pix_feat_proj.", "tracker_model.memory_encoder.feature_projection."),
    ("tracker.maskmem_backbone.out_proj.", "tracker_model.memory_encoder.projection."),
    ("tracker.maskmem_backbone.fuser.", "tracker_model.memory_encoder.memory_fuser."),
    ("tracker.maskmem_backbone.mask_downsampler.encoder.", "tracker_model.memory_encoder.mask_downsampler."),
    ("tracker.sam_prompt_encoder.mask_downscaling.", "tracker_model.prompt_encoder.mask_embed."),
    ("tracker.sam_prompt_encoder.", "tracker_model.prompt_encoder."),
    ("tracker.sam_mask_decoder.output_upscaling.", "tracker_model.mask_decoder.upscale_"),
    (
        "tracker.sam_mask_decoder.transformer.norm_final_attn.",
        "tracker_model.mask_decoder.transformer.layer_norm_final_attn.",
    ),
    ("tracker.sam_mask_decoder.", "tracker_model.mask_decoder."),
    ("tracker.obj_ptr_proj.", "tracker_model.object_pointer_proj."),
    ("tracker.obj_ptr_tpos_proj.", "tracker_model.temporal_positional_encoding_projection_layer."),
    ("tracker.", "tracker_model."),
)

# Renames inside the new names: a pattern of the name, what it finds, and the replacement.
_PARTS: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"vision_encoder\.backbone\.layers", r"\.norm(\d)\.", r".layer_norm\1."),
    (r"vision_encoder\.backbone\.layers", r"\.attn\.proj\.", ".attention.o_proj."),
    (r"fpn_layers", r"\.dconv_2x2_0\.", ".scale_layers.0."),
    (r"fpn_layers", r"\.dconv_2x2_1\.", ".scale_layers.2."),
    (r"fpn_layers", r"\.dconv_2x2\.", ".scale_layers.0."),
    (r"fpn_layers", r"\.conv_1x1\.", ".proj1."),
    (r"fpn_layers", r"\.conv_3x3\.", ".proj2."),
    (r"text_model\.encoder", r"\.ln_(\d)\.", r".layer_norm\1."),
    (r"text_model\.encoder", r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"text_model\.encoder", r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"text_model\.encoder", r"\.attn\.", ".self_attn."),
    (r"geometry_encoder\.layers|detr_encoder\.layers", r"\.cross_attn_image\.", ".cross_attn."),
    (r"geometry_encoder\.layers|detr_encoder\.layers", r"\.norm(\d)\.", r".layer_norm\1."),
    (r"detr_decoder\.layers", r"\.norm1\.", ".vision_cross_attn_layer_norm."),
    (r"detr_decoder\.layers", r"\.catext_norm\.", ".text_cross_attn_layer_norm."),
    (r"detr_decoder\.layers", r"\.norm2\.", ".self_attn_layer_norm."),
    (r"detr_decoder\.layers", r"\.norm3\.", ".mlp_layer_norm."),
    (r"detr_decoder\.layers", r"\.cross_attn\.", ".vision_cross_attn."),
    (r"detr_decoder\.layers", r"\.ca_text\.", ".text_cross_attn."),
    (r"detr_\w+\.layers|geometry_encoder\.layers", r"\.linear(\d)\.", r".mlp.fc\1."),
    (
        r"box_head|box_rpb|presence_head|ref_point_head|text_mlp\.",
        r"\.layers\.(\d)\.",
        lambda m: f".layer{int(m[1]) + 1}.",
    ),
    (r"memory_attention\.layers|mask_decoder\.transformer\.layers", r"\.norm(\d)\.", r".layer_norm\1."),
    (r"memory_fuser", r"\.gamma$", ".scale"),
    (r"memory_fuser", r"\.dwconv\.", ".depthwise_conv."),
    (r"memory_fuser", r"\.norm\.", ".layer_norm."),
    (r"memory_fuser", r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"mask_downsampler", r"downsampler\.12\.", "downsampler.final_conv."),
    (
        r"mask_downsampler",
        r"downsampler\.(0|3|6|9)\.",
        lambda m: f"downsampler.layers.{int(m[1]) // 3}.conv.",
    ),
    (
        r"mask_downsampler",
        r"downsampler\.(1|4|7|10)\.",
        lambda m: f"downsampler.layers.{int(m[1]) // 3}.layer_norm.",
    ),
    (r"mask_embed\.", r"mask_embed\.(0|3|6)\.", lambda m: f"mask_embed.conv{int(m[1]) // 3 + 1}."),
    (r"mask_embed\.", r"mask_embed\.(1|4)\.", lambda m: f"mask_embed.layer_norm{int(m[1]) // 3 + 1}."),
    (r"upscale_", r"upscale_0\.", "upscale_conv1."),
    (r"upscale_", r"upscale_1\.", "upscale_layer_norm."),
    (r"upscale_", r"upscale_3\.", "upscale_conv2."),
    (r"mask_decoder\.transformer", r"\.mlp\.lin1\.", ".mlp.proj_in."),
    (r"mask_decoder\.transformer", r"\.mlp\.lin2\.", ".mlp.proj_out."),
    (
        r"output_hypernetworks_mlps|iou_prediction_head|pred_obj_score_head|object_pointer_proj",
        r"\.layers\.([012])\.",
        lambda m: (".proj_in.", ".layers.0.", ".proj_out.")[int(m[1])],
    ),
    (r"^(?!.*text_model)", r"\.out_proj\.", ".o_proj."),
)

_PACKED = re.compile(r"(.*)\.(?:attention\.qkv\.|attn\.qkv\.|in_proj_)(weight|bias)")


class Layout(Enum):
    """The layout of a file."""

    OFFICIAL = auto()
    HUGGING_FACE = auto()
    SAM3_1 = auto()


class Source(NamedTuple):
    """The tensors of a file from which one tensor is made: their shapes by name, and the conversion."""

    shapes: Shapes
    convert: Callable[[Sequence[Tensor]], Tensor]


class ConvertedState(Mapping[str, Tensor]):
    """A file's tensors under the names that the services use; each access reads and converts again."""

    def __init__(self, file: Mapping[str, Tensor], sources: Mapping[str, Source]) -> None:
        self._file = file
        self._sources = sources

    def __getitem__(self, key: str) -> Tensor:
        source = self._sources[key]
        return source.convert([self._file[name] for name in source.shapes])

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def has_layouts(shapes: Shapes) -> bool:
    """Whether a model with these keys is a SAM 3."""
    return _POSITIONS in shapes


def layout_of(names: Iterable[str]) -> Layout:
    """The layout of a file with these keys; official if it is none of the others."""
    names = set(names)
    if any(name.startswith(("tracker.model.", "sam3_model.", "sam2_predictor.")) for name in names):
        return Layout.SAM3_1
    is_hugging_face = any(name.startswith("detector_model.") for name in names)
    return Layout.HUGGING_FACE if is_hugging_face else Layout.OFFICIAL


def sources(layout: Layout, shapes: Shapes) -> dict[str, Source]:
    """The source of each key that the services use; ``shapes`` has these keys."""
    if layout is Layout.HUGGING_FACE:
        return {key: _hugging_face_source(key, shape) for key, shape in shapes.items()}
    made = {key: Source({key: shape}, _only) for key, shape in shapes.items()}
    batch, count, dim = shapes[_POSITIONS]
    made[_POSITIONS] = Source({_POSITIONS: (batch, count + 1, dim)}, lambda t: t[0][:, 1:])
    return made


def unused(layout: Layout, shapes: Shapes) -> list[str]:
    """The keys that a file of this layout may have besides; rotary angles are computed instead."""
    if layout is Layout.HUGGING_FACE:
        return []
    angles = [re.sub(r"qkv\.weight$", "freqs_cis", key) for key in shapes if key.endswith("attn.qkv.weight")]
    points = [
        f"detector.geometry_encoder.points_{name}_project.{kind}"
        for name in ("direct", "pool", "pos_enc")
        for kind in ("weight", "bias")
    ]
    return angles + points


def _hugging_face_source(key: str, shape: tuple[int, ...]) -> Source:
    name = _renamed(key)
    if packed := _PACKED.fullmatch(name):
        owner, kind = packed.groups()
        owner = owner + ".attention" if ".backbone.layers." in owner else owner
        part = (shape[0] // 3, *shape[1:])
        return Source({f"{owner}.{x}_proj.{kind}": part for x in "qkv"}, lambda t: torch.cat(tuple(t)))
    if key.startswith(_POINT):
        row = int(key.removeprefix(_POINT).partition(".")[0])
        table = "tracker_model.prompt_encoder.point_embed.weight"
        return Source({table: (4, shape[1])}, lambda t: t[0][row : row + 1])
    if key.endswith("positional_encoding_gaussian_matrix"):
        copies = ("shared_image_embedding", "prompt_encoder.shared_embedding")
        return Source({f"tracker_model.{c}.positional_embedding": shape for c in copies}, _only)
    if key.endswith("text_projection"):
        return Source({name: shape[::-1]}, lambda t: t[0].T)
    return Source({name: shape}, _only)


def _only(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0]


def _renamed(key: str) -> str:
    prefix, new = next(pair for pair in _PREFIXES if key.startswith(pair[0]))
    name = new + key.removeprefix(prefix)
    for where, pattern, replacement in _PARTS:
        if re.search(where, name):
            name = re.sub(pattern, replacement, name)
    return name
