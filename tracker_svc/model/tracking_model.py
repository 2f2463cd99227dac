"""The tracking model: the stages after the image encoder, and the learned tokens between them.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos" (2024); Carion et al., "SAM 3: Segment
Anything with Concepts" (2025), whose tracking stages are the same.  Attributes have the names of
the official checkpoints.  Every stage is a method with a named result.  ``tracker_svc.memory.memory_bank``
selects the memories that a stage reads, from frame indices alone.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.image_features import ImageEmbedding, ImageFeatures, TrunkFeatures
from maskmesh.nn.layers import MLP
from tracker_svc.model.config import TrackingModelConfig
from tracker_svc.model.detection.detector import ConceptDetector
from tracker_svc.model.detection.neck import Neck
from tracker_svc.model.mask_decoder import DecodedMasks, MaskDecoder
from tracker_svc.model.memory_attention import FrameQueries, Memories, MemoryAttention, MemoryTokens
from tracker_svc.model.memory_encoder import MemoryEncoder
from tracker_svc.model.memory_masks import MASK_BIAS, MASK_SCALE, disjoint, resized, scale_mask
from tracker_svc.model.position_encoding import sine_position_encoding, sine_time_encoding
from tracker_svc.model.prompt_encoder import PointLabel, PromptEmbeddings, PromptEncoder

# One temporal embedding for conditioning frames, and one for each of the 6 preceding frames.
MEMORY_SLOTS = 7

# The reference implementation divides by the length of the video if that is shorter.  A live stream has no
# length, so a constant makes the results of video files and live streams equal.
POINTER_TIME_SCALE = 15.0

# Weights that keep their type, because rounding would displace points and boxes.
FREQUENCIES = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
REFERENCE_BOXES = "detector.transformer.decoder.reference_points.weight"

# Logits of an object that is out of sight.
NO_OBJECT_LOGIT = -1024.0


class ObjectPredictions(NamedTuple):
    """One mask for each of B objects."""

    low_res_masks: Tensor  # [B, 1, 4 E, 4 E] logits, float32
    iou_predictions: Tensor  # [B]
    object_pointers: Tensor  # [B, C]
    object_score_logits: Tensor  # [B]


def _weight(model: nn.Module, key: str) -> Tensor:
    owner, _, name = key.rpartition(".")
    weight = getattr(model.get_submodule(owner), name)
    assert isinstance(weight, Tensor)
    return weight


class TrackingModel(nn.Module):
    """Prompt encoder, memory attention, mask decoder and memory encoder, as stages.

    Every stage computes B objects.  The features of the frame have a batch of 1 if all objects are on one
    frame, and a batch of B if each object has its own frame.
    """

    def __init__(self, config: TrackingModelConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        self.embedding_size = config.image_size // config.stride
        self.low_res_size = 4 * self.embedding_size
        # Four convolutions of stride 2 lead from the memory encoder's mask to the grid.
        self.mask_size = 16 * self.embedding_size
        self.memory_rules = config.memory
        self.disjoint_prompted_masks = config.disjoint_prompted_masks
        dim, memory_dim = config.embed_dim, config.memory_dim
        self.embed_dim, self.memory_dim = dim, memory_dim
        self.sam_prompt_encoder = PromptEncoder(dim, config.image_size, self.embedding_size)
        self.sam_mask_decoder = MaskDecoder(
            dim, hidden_dim=config.decoder_hidden_dim, iou_hidden_dim=config.iou_hidden_dim
        )
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
        self.detector: ConceptDetector | None = None
        if config.detector is not None:
            self.detector = ConceptDetector(config.detector)
            self.neck = Neck(config.detector.trunk_dim, dim)
            self.conv_s0 = nn.Conv2d(dim, dim // 8, kernel_size=1)
            self.conv_s1 = nn.Conv2d(dim, dim // 4, kernel_size=1)

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights, except those in :attr:`float32_keys`."""
        # Copies, because conversion changes a parameter in place.
        kept = {key: _weight(self, key).detach().clone() for key in self.float32_keys}
        self.to(device, dtype)
        for key, value in kept.items():
            _weight(self, key).data = value.to(device)
        return self

    @property
    def float32_keys(self) -> tuple[str, ...]:
        """The weights that stay in float32 in every type of the model: frequencies and start boxes."""
        if self.detector is None:
            return (FREQUENCIES,)
        return FREQUENCIES, REFERENCE_BOXES

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.no_mem_embed.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and activations."""
        return self.no_mem_embed.dtype

    def frame_features(self, embedding: ImageEmbedding) -> ImageFeatures:
        """The stage ``tracker_neck``: what the tracking stages read of a frame.

        The embeddings of SAM 2.1 are these features already.
        """
        if isinstance(embedding, TrunkFeatures):
            return self.neck.features(embedding.trunk_map, self.conv_s0, self.conv_s1)
        assert isinstance(embedding, ImageFeatures), "embeddings of points belong to another model"
        return embedding

    def encode_prompts(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> PromptEmbeddings:
        """The stage ``prompt_encoder``; shapes as in :meth:`PromptEncoder.forward`."""
        prompts: PromptEmbeddings = self.sam_prompt_encoder(point_coords, point_labels, mask_input)
        return prompts

    def encode_no_prompt(self, batch: int) -> PromptEmbeddings:
        """Encode the prompt of a tracked frame: one padding point for each of ``batch`` objects."""
        coords = torch.zeros(batch, 1, 2, device=self.device)
        labels = torch.full((batch, 1), PointLabel.PADDING, device=self.device)
        return self.encode_prompts(coords, labels)

    def without_memory(self, frame: ImageFeatures) -> Tensor:
        """Returns the embedding of a frame that is not conditioned on memories: [1, C, E, E]."""
        return frame.image_embedding + self.no_mem_embed.view(1, -1, 1, 1)

    def query_memories(self, frame: ImageFeatures) -> FrameQueries:
        """The part of the stage ``memory_attention`` that is the same for all objects on a frame."""
        size = self.embedding_size
        positions = sine_position_encoding(size, size, self.embed_dim, self.device)[None]
        return self.memory_attention.prepare(frame.image_embedding, positions.to(self.dtype))

    def attend_to_memories(self, queries: FrameQueries, memories: Sequence[Memories]) -> Tensor:
        """The stage ``memory_attention``: condition a frame on the memories of B objects.

        The objects must have equal numbers of memories and of pointers.  Returns [B, C, E, E].
        """
        tokens, with_positions = zip(*(self._memory_tokens(m) for m in memories), strict=True)
        num_pointer_tokens = len(memories[0].pointers) * (self.embed_dim // self.memory_dim)
        stacked = MemoryTokens(torch.stack(tokens), torch.stack(with_positions), num_pointer_tokens)
        conditioned: Tensor = self.memory_attention(queries, stacked)
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
        """Select the alternative with the highest predicted IoU; objects out of sight get an empty mask."""
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
        """Use mask prompts as the output; the decoder computes only their object pointers.

        mask: [B, 1, S, S], of any size S, zeros and ones.
        """
        low_res_masks = F.interpolate(
            mask.float() * MASK_SCALE + MASK_BIAS,
            size=(self.low_res_size, self.low_res_size),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        batch = mask.shape[0]
        no_points = self.encode_no_prompt(batch)
        dense = self.sam_prompt_encoder(
            torch.zeros(batch, 0, 2, device=self.device),
            torch.zeros(batch, 0, dtype=torch.long, device=self.device),
            self.mask_downsample(resized(mask.float(), self.mask_size).to(self.dtype)),
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

        low_res_masks: [B, 1, 4 E, 4 E]; object_score_logits: [B]; prompted: [B] bool, the same for all.
        Returns [B, memory_dim, E, E] in bfloat16, whichever type the model has, as in the reference
        implementation.  Memories that are replicated or archived are therefore equal to the originals.
        """
        size = (self.image_size, self.image_size)
        logits = F.interpolate(low_res_masks.float(), size=size, mode="bilinear", align_corners=False)
        if self.disjoint_prompted_masks and len(logits) > 1 and bool(prompted.all()):
            logits = disjoint(logits)
        return self._encode_mask(frame, scale_mask(logits, prompted, self.mask_size), object_score_logits)

    def enlarge(self, low_res_masks: Tensor) -> Tensor:
        """Enlarge logits to the memory encoder's input: [B, 4 E, 4 E]; returns [B, 1, 16 E, 16 E]."""
        size = (self.mask_size, self.mask_size)
        logits = low_res_masks[:, None].float()
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def encode_followed(self, frame: ImageFeatures, logits: Tensor, *, prompted: bool) -> Tensor:
        """The stage ``memory_encoder`` for the objects of a concept.

        logits: [B, 1, 16 E, 16 E], from :meth:`enlarge`.  Objects without a pixel are out of sight.  Returns
        what :meth:`encode_memory` returns.
        """
        in_sight = (logits > 0).flatten(1).any(dim=1)
        binary = torch.full((len(logits),), prompted, device=logits.device)
        return self._encode_mask(frame, scale_mask(logits, binary, self.mask_size), in_sight.float())

    def _encode_mask(self, frame: ImageFeatures, mask: Tensor, object_score_logits: Tensor) -> Tensor:
        features: Tensor = self.memory_encoder(frame.image_embedding, mask.to(self.dtype))
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
