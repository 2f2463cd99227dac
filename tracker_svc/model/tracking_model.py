"""The tracking model: the stages after the cut, and the learned tokens between them.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024).  Attributes carry the names of
the official checkpoints.  Every stage is a method with a named result; which memories a stage sees is
decided elsewhere (``tracker_svc.memory.memory_bank``), from plain numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracker_svc.model.config import TrackingModelConfig
from tracker_svc.model.layers import MLP
from tracker_svc.model.mask_decoder import DecodedMasks, MaskDecoder
from tracker_svc.model.memory_attention import (
    FrameQueries,
    MemoryAttention,
    MemoryTokens,
    Pause,
    go_on,
)
from tracker_svc.model.memory_encoder import MemoryEncoder
from tracker_svc.model.position_encoding import sine_position_encoding, sine_time_encoding
from tracker_svc.model.prompt_encoder import PointLabel, PromptEmbeddings, PromptEncoder

# One temporal embedding for conditioning frames and one for each of the 6 frames before.
MEMORY_SLOTS = 7

# The original divides by the length of the video where that is shorter; a stream has no length, so a
# file and a stream agree only if it is constant.
POINTER_TIME_SCALE = 15.0

# Logits of an object that is out of sight.
NO_OBJECT_LOGIT = -1024.0

# The scale that masks have when the memory encoder sees them, and that of masks given as prompts.
MASK_SCALE, MASK_BIAS = 20.0, -10.0


class ImageFeatures(NamedTuple):
    """The embedding of one frame as it comes from the encoder service; S is the model's image size.

    Where stages compute for several frames at once there are as many rows.
    """

    image_embedding: Tensor  # [1, C, S / 16, S / 16]
    high_res_features_s4: Tensor  # [1, C / 8, S / 4, S / 4]
    high_res_features_s8: Tensor  # [1, C / 4, S / 8, S / 8]

    @property
    def high_res_features(self) -> tuple[Tensor, Tensor]:
        """The two finer maps, the finest first."""
        return self.high_res_features_s4, self.high_res_features_s8

    @classmethod
    def stack(cls, frames: "Sequence[ImageFeatures]") -> "ImageFeatures":
        """Several frames as one, [F, ...] each; one frame as it is."""
        if len(frames) == 1:
            return frames[0]
        return cls(*(torch.cat(maps) for maps in zip(*frames, strict=True)))

    def rows(self, at: Sequence[int]) -> "ImageFeatures":
        """The frame of each row, [B, ...]; one frame is shared by all rows."""
        if len(self.image_embedding) == 1:
            return self
        return ImageFeatures(*(maps[at] for maps in self))


class SpatialMemory(NamedTuple):
    """One memory of one object, and which temporal embedding it takes."""

    features: Tensor  # [memory_dim, E, E]
    slot: int  # 0 for the frame just before, up to 5; 6 for conditioning frames


class Pointer(NamedTuple):
    """One pointer of one object, and how many frames it lies before the current one."""

    object_pointer: Tensor  # [C]
    frames_before: int


class Memories(NamedTuple):
    """What one object remembers at one frame."""

    spatial: Sequence[SpatialMemory]
    pointers: Sequence[Pointer]


class ObjectPredictions(NamedTuple):
    """One mask for each of B objects."""

    low_res_masks: Tensor  # [B, 1, S / 4, S / 4] logits, float32
    iou_predictions: Tensor  # [B]
    object_pointers: Tensor  # [B, C]
    object_score_logits: Tensor  # [B]


def scale_mask(low_res_masks: Tensor, prompted: Tensor, image_size: int) -> Tensor:
    """Bring masks to the size and scale that the memory encoder was trained with.

    low_res_masks: [B, 1, S / 4, S / 4] logits.  prompted: [B] bool; masks of prompted frames are
    binarised, others keep their confidence.  Returns [B, 1, S, S].
    """
    size = (image_size, image_size)
    logits = F.interpolate(low_res_masks.float(), size=size, mode="bilinear", align_corners=False)
    mask = torch.where(prompted.view(-1, 1, 1, 1), (logits > 0).float(), logits.sigmoid())
    return mask * MASK_SCALE + MASK_BIAS


class TrackingModel(nn.Module):
    """Prompt encoder, memory attention, mask decoder and memory encoder, as stages.

    Every stage works on B objects, all of one frame, which then has a batch of 1, or each of its own.
    """

    def __init__(self, config: TrackingModelConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.embedding_size = config.image_size // 16
        dim, memory_dim = config.embed_dim, config.memory_dim
        self.embed_dim, self.memory_dim = dim, memory_dim
        self.sam_prompt_encoder = PromptEncoder(dim, config.image_size)
        self.sam_mask_decoder = MaskDecoder(dim, hidden_dim=config.decoder_hidden_dim)
        self.memory_attention = MemoryAttention(
            dim,
            memory_dim=memory_dim,
            layers=config.memory_attention_layers,
            hidden_dim=config.memory_attention_hidden_dim,
        )
        self.memory_encoder = MemoryEncoder(dim, memory_dim)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.obj_ptr_proj = MLP(dim, dim, dim, depth=3)
        self.obj_ptr_tpos_proj = nn.Linear(dim, memory_dim)
        self.maskmem_tpos_enc = nn.Parameter(torch.zeros(MEMORY_SLOTS, 1, 1, memory_dim))
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, dim))
        self.no_mem_pos_enc = nn.Parameter(torch.zeros(1, 1, dim))  # in every checkpoint; unused
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, dim))
        self.no_obj_embed_spatial = nn.Parameter(torch.zeros(1, memory_dim))

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights.

        The frequencies of point positions stay as they are: in bfloat16 a point would be read some pixels
        beside its place.
        """
        positions = self.sam_prompt_encoder.pe_layer
        frequencies = positions.positional_encoding_gaussian_matrix
        self.to(device, dtype)
        positions.positional_encoding_gaussian_matrix = frequencies.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.no_mem_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and activations."""
        return self.no_mem_embed.dtype

    def encode_prompts(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> PromptEmbeddings:
        """The stage ``prompt_encoder``; shapes as in :meth:`PromptEncoder.forward`."""
        prompts: PromptEmbeddings = self.sam_prompt_encoder(point_coords, point_labels, mask_input)
        return prompts

    def encode_no_prompt(self, batch: int) -> PromptEmbeddings:
        """The prompt of a tracked frame: one padding point for each of ``batch`` objects."""
        coords = torch.zeros(batch, 1, 2, device=self.device)
        labels = torch.full((batch, 1), PointLabel.PADDING, device=self.device)
        return self.encode_prompts(coords, labels)

    def without_memory(self, frame: ImageFeatures) -> Tensor:
        """The embedding of a frame that no memory conditions: [1, C, E, E]."""
        return frame.image_embedding + self.no_mem_embed.view(1, -1, 1, 1)

    def query_memories(self, frame: ImageFeatures) -> FrameQueries:
        """The part of the stage ``memory_attention`` that is the same for all objects on a frame."""
        size = self.embedding_size
        positions = sine_position_encoding(size, size, self.embed_dim, self.device)[None]
        return self.memory_attention.prepare(frame.image_embedding, positions.to(self.dtype))

    def attend_to_memories(
        self, queries: FrameQueries, memories: Sequence[Memories], pause: Pause = go_on
    ) -> Tensor:
        """The stage ``memory_attention``: condition a frame on what B objects remember.

        The objects must agree in their numbers of memories and of pointers.  ``pause`` is called wherever
        the work can be left for a while.  Returns [B, C, E, E].
        """
        tokens, with_positions = zip(*(self._memory_tokens(m) for m in memories), strict=True)
        pointers = len(memories[0].pointers) * (self.embed_dim // self.memory_dim)
        stacked = MemoryTokens(torch.stack(tokens), torch.stack(with_positions), pointers)
        conditioned: Tensor = self.memory_attention(queries, stacked, pause=pause)
        return conditioned

    def decode(
        self,
        conditioned: Tensor,
        frame: ImageFeatures,
        prompts: PromptEmbeddings,
        *,
        multimask_output: bool,
    ) -> DecodedMasks:
        """The stage ``mask_decoder``.  conditioned: [1 or B, C, E, E]."""
        decoded: DecodedMasks = self.sam_mask_decoder(
            conditioned,
            self.sam_prompt_encoder.image_positions().to(self.dtype),
            prompts.sparse_embeddings.to(self.dtype),
            prompts.dense_embeddings.to(self.dtype),
            frame.high_res_features,
            multimask_output=multimask_output,
        )
        return decoded

    def select(self, decoded: DecodedMasks) -> ObjectPredictions:
        """Take the best of the alternatives, and account for objects that are out of sight."""
        rows = torch.arange(len(decoded.iou_predictions), device=decoded.iou_predictions.device)
        best = decoded.iou_predictions.argmax(dim=-1)
        scores = decoded.object_score_logits[:, 0]
        masks = decoded.low_res_masks[rows, best].unsqueeze(1).float()
        in_sight = scores > 0
        return ObjectPredictions(
            low_res_masks=torch.where(in_sight.view(-1, 1, 1, 1), masks, NO_OBJECT_LOGIT),
            iou_predictions=decoded.iou_predictions[rows, best].float(),
            object_pointers=self._object_pointers(decoded.mask_tokens[rows, best], in_sight),
            object_score_logits=scores.float(),
        )

    def adopt_mask(self, frame: ImageFeatures, mask: Tensor) -> ObjectPredictions:
        """Take masks given as prompts as the output; the decoder contributes their pointers only.

        mask: [B, 1, S, S], zeros and ones.
        """
        low_res_masks = F.interpolate(
            mask.float() * MASK_SCALE + MASK_BIAS,
            size=(self.image_size // 4, self.image_size // 4),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        batch = mask.shape[0]
        no_points = self.encode_no_prompt(batch)
        dense = self.sam_prompt_encoder(
            torch.zeros(batch, 0, 2, device=self.device),
            torch.zeros(batch, 0, dtype=torch.long, device=self.device),
            self.mask_downsample(mask.to(self.dtype)),
        ).dense_embeddings
        prompts = PromptEmbeddings(no_points.sparse_embeddings, dense)
        decoded = self.decode(frame.image_embedding, frame, prompts, multimask_output=False)
        pointers = self.select(decoded).object_pointers
        in_sight = mask.flatten(1).any(dim=1)
        return ObjectPredictions(
            low_res_masks=low_res_masks,
            iou_predictions=torch.ones(batch, device=mask.device),
            object_pointers=torch.where(in_sight[:, None], pointers, self.no_obj_ptr),
            object_score_logits=in_sight.float() * MASK_SCALE + MASK_BIAS,
        )

    def encode_memory(
        self,
        frame: ImageFeatures,
        low_res_masks: Tensor,
        object_score_logits: Tensor,
        prompted: Tensor,
    ) -> Tensor:
        """The stage ``memory_encoder``.

        low_res_masks: [B, 1, S / 4, S / 4]; object_score_logits: [B]; prompted: [B] bool.
        Returns [B, memory_dim, E, E] in bfloat16: memories are rounded whatever the model's type, as in
        the original, so that kept, sent and restored memories are equal.
        """
        mask = scale_mask(low_res_masks, prompted, self.image_size).to(self.dtype)
        features: Tensor = self.memory_encoder(frame.image_embedding, mask)
        out_of_sight = (object_score_logits <= 0).to(features.dtype).view(-1, 1, 1, 1)
        features = features + out_of_sight * self.no_obj_embed_spatial.view(1, -1, 1, 1)
        return features.to(torch.bfloat16)

    def _object_pointers(self, mask_tokens: Tensor, in_sight: Tensor) -> Tensor:
        """mask_tokens: [B, C]; in_sight: [B] bool; returns [B, C]."""
        return torch.where(in_sight[:, None], self.obj_ptr_proj(mask_tokens), self.no_obj_ptr)

    def _memory_tokens(self, memories: Memories) -> tuple[Tensor, Tensor]:
        """Tokens of one object, without and with their positions: [memory_dim, M] each, pointers last."""
        size = self.embedding_size
        grid = sine_position_encoding(size, size, self.memory_dim, self.device).flatten(1)
        tokens = [m.features.flatten(1).to(self.dtype) for m in memories.spatial]
        positions = [
            (grid + self.maskmem_tpos_enc[m.slot, 0, 0, :, None]).to(self.dtype) for m in memories.spatial
        ]
        if memories.pointers:
            parts = self.embed_dim // self.memory_dim
            stacked = torch.stack([p.object_pointer for p in memories.pointers])
            tokens.append(stacked.reshape(-1, self.memory_dim).T)
            times = torch.tensor([p.frames_before for p in memories.pointers], device=self.device)
            sines = sine_time_encoding(times / POINTER_TIME_SCALE, self.embed_dim).to(self.dtype)
            positions.append(self.obj_ptr_tpos_proj(sines).repeat_interleave(parts, dim=0).T)
        with_positions = [t + position for t, position in zip(tokens, positions, strict=True)]
        return torch.cat(tokens, dim=1), torch.cat(with_positions, dim=1)
