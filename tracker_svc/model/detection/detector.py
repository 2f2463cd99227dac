"""The concept detector: its stages, and their composition.

Source: Carion et al., "SAM 3: Segment Anything with Concepts" (2025).  Attributes have the names of the
official checkpoint.  Every stage is a method with a named result.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tracker_svc.model.config import DetectorConfig
from tracker_svc.model.detection.exemplar_encoder import ExemplarEncoder
from tracker_svc.model.detection.fusion_encoder import ConceptPrompts, FusionEncoder
from tracker_svc.model.detection.mask_head import MaskHead
from tracker_svc.model.detection.neck import DetectorMaps, Neck
from tracker_svc.model.detection.query_decoder import DecodedQueries, QueryDecoder
from tracker_svc.model.detection.scoring import DotProductScoring
from tracker_svc.model.detection.text_encoder import TextEncoder
from tracker_svc.model.position_encoding import sine_position_encoding


class Fused(NamedTuple):
    """An image conditioned on B concepts."""

    tokens: Tensor  # [B, E * E, dim]
    positions: Tensor  # [1, E * E, dim]
    prompts: ConceptPrompts


class ScoredQueries(NamedTuple):
    """The Q queries of B concepts with their scores."""

    queries: Tensor  # [B, Q, dim]
    boxes: Tensor  # [B, Q, 4], centre, width and height, 0 to 1
    query_logits: Tensor  # [B, Q]
    presence_logits: Tensor  # [B]

    @property
    def scores(self) -> Tensor:
        """The probability that a query shows an instance and that the concept is present: [B, Q]."""
        return self.query_logits.sigmoid() * self.presence_logits.sigmoid()[:, None]


class VisionNecks(nn.Module):
    """The neck of the detector, grouped as in the checkpoint."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.convs = Neck(config.trunk_dim, config.dim)


class DetectorBackbone(nn.Module):
    """The neck and the text encoder, grouped as in the checkpoint."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.vision_backbone = VisionNecks(config)
        self.language_backbone = TextEncoder(config)


class DetectorTransformer(nn.Module):
    """The fusion encoder and the query decoder, grouped as in the checkpoint."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.encoder = FusionEncoder(config)
        self.decoder = QueryDecoder(config)


class ConceptDetector(nn.Module):
    """The stages from the trunk's map and the prompts of concepts to instances."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = DetectorBackbone(config)
        self.geometry_encoder = ExemplarEncoder(config)
        self.transformer = DetectorTransformer(config)
        self.dot_prod_scoring = DotProductScoring(config)
        self.segmentation_head = MaskHead(config)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """The stage ``text_encoder``.  tokens: [1, N] integers; returns [1, N, dim]."""
        encoded: Tensor = self.backbone.language_backbone(tokens)
        return encoded

    def coarse_map(self, trunk_map: Tensor) -> Tensor:
        """The part of the stage ``detector_neck`` that detection reads: [1, dim, E, E]."""
        return self.backbone.vision_backbone.convs.coarse(trunk_map)

    def fine_maps(self, trunk_map: Tensor) -> DetectorMaps:
        """The part of the stage ``detector_neck`` that only the mask head reads."""
        return self.backbone.vision_backbone.convs.fine(trunk_map)

    def positions(self, coarse: Tensor) -> Tensor:
        """The position encoding of a map: [1, dim, E, E]."""
        height, width = coarse.shape[-2:]
        return sine_position_encoding(height, width, coarse.shape[1], coarse.device).to(coarse.dtype)[None]

    def encode_exemplars(self, coarse: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        """The stage ``exemplar_encoder``; shapes as in :meth:`ExemplarEncoder.forward`."""
        encoded: Tensor = self.geometry_encoder(coarse, self.positions(coarse), boxes, labels)
        return encoded

    def fuse(self, coarse: Tensor, prompts: Sequence[Tensor]) -> Fused:
        """The stage ``detector_encoder``.

        coarse: [1, dim, E, E] for concepts on one image, [B, dim, E, E] for each on its own; prompts: the
        tokens of each concept, [1, M, dim].
        """
        encoder = self.transformer.encoder
        image = encoder.prepare(coarse, self.positions(coarse))
        stacked = ConceptPrompts.stack(list(prompts))
        return Fused(encoder(image, stacked), image.positions, stacked)

    def decode(self, fused: Fused) -> ScoredQueries:
        """The stage ``detector_decoder``."""
        decoded: DecodedQueries = self.transformer.decoder(fused.tokens, fused.positions, fused.prompts)
        logits = self.dot_prod_scoring(decoded.queries, fused.prompts)
        return ScoredQueries(decoded.queries, decoded.boxes, logits, decoded.presence_logits)

    def masks(
        self, fused: Fused, maps: DetectorMaps, queries: Tensor, chosen: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """The stage ``mask_head``: the masks of the chosen queries of each concept.

        maps: of one image, or of the image of each concept; queries: [B, Q, dim]; ``chosen`` has the indices
        of each concept's queries.  Returns logits [len(chosen[b]), 4 E, 4 E] for each concept, float32.
        Concepts without a chosen query cost nothing.
        """
        rows = [row for row, indices in enumerate(chosen) if indices]
        side = maps.stride4.shape[-1]
        masks = [torch.zeros(0, side, side, device=queries.device) for _ in chosen]
        if rows:
            prompts = ConceptPrompts(
                fused.prompts.tokens[rows], None if fused.prompts.mask is None else fused.prompts.mask[rows]
            )
            pixels = self.segmentation_head.embed_pixels(fused.tokens[rows], maps.rows(rows), prompts)
            for pixels_of_row, row in zip(pixels, rows, strict=True):
                masks[row] = self.segmentation_head.masks(pixels_of_row, queries[row, chosen[row]]).float()
        return masks
