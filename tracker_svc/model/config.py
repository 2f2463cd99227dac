"""Presets of the tracking model: SAM 2.1, whose sizes share one architecture, SAM 3, and small ones."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRules:
    """Options of the selection; the defaults are those of SAM 2.1.

    ``max_conditioning`` is the number of conditioning frames that a frame attends to, the nearest; None is
    all.  Tracked frames whose quality is not above ``min_quality`` are passed over for older ones, except
    the frame before; None selects by distance alone.  ``recent_memories`` is the number of preceding frames
    whose spatial memories are read.
    """

    max_conditioning: int | None = None
    min_quality: float | None = None
    recent_memories: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """Hyperparameters of a concept detector; the defaults are those of SAM 3.

    ``trunk_dim`` is the number of channels of the trunk's map, ``dim`` that of the detector.
    ``context_length`` is the maximum number of tokens of a phrase.
    """

    trunk_dim: int = 1024
    dim: int = 256
    heads: int = 8
    hidden_dim: int = 2048
    encoder_layers: int = 6
    decoder_layers: int = 6
    exemplar_layers: int = 3
    queries: int = 200
    text_dim: int = 1024
    text_heads: int = 16
    text_layers: int = 24
    vocabulary: int = 49408
    context_length: int = 32

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.text_dim % self.text_heads:
            raise ValueError("the number of heads must divide the number of channels")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingModelConfig:
    """Hyperparameters of a tracking model; the defaults are those of all SAM 2.1 checkpoints.

    ``embed_dim`` is the number of channels of image embeddings and prompts, ``memory_dim`` that of
    memories.  ``memory_dim`` must divide ``embed_dim``, because an object pointer enters memory attention
    as ``embed_dim / memory_dim`` tokens.

    ``stride`` is the side of a cell of the embedding in pixels, and ``image_size`` a multiple of
    ``size_multiple``.  ``memory`` are the rules by which memories are selected.  With
    ``disjoint_prompted_masks``, the masks of objects that are prompted on one frame do not overlap in
    memory.  ``detector`` is the concept detector of SAM 3; models that have one compute the features of a
    frame from the trunk's map.
    """

    embed_dim: int = 256
    memory_dim: int = 64
    memory_attention_layers: int = 4
    memory_attention_hidden_dim: int = 2048
    decoder_hidden_dim: int = 2048
    iou_hidden_dim: int = 256
    image_size: int = 1024
    trained: bool = True
    stride: int = 16
    size_multiple: int = 32
    memory: MemoryRules = field(default_factory=MemoryRules)
    disjoint_prompted_masks: bool = False
    detector: DetectorConfig | None = None

    def __post_init__(self) -> None:
        if self.image_size % self.size_multiple:
            raise ValueError(f"image_size must be a multiple of {self.size_multiple}, got {self.image_size}")
        if self.embed_dim % self.memory_dim:
            raise ValueError("memory_dim must divide embed_dim")


SAM2_1 = TrackingModelConfig()

# Source: Carion et al., "SAM 3" (2025); the tracking stages are those of SAM 2.1 on a finer grid.
SAM3 = TrackingModelConfig(
    image_size=1008,
    stride=14,
    size_multiple=336,
    memory=MemoryRules(max_conditioning=4, min_quality=0.01),
    disjoint_prompted_masks=True,
    detector=DetectorConfig(),
)

PRESETS: dict[str, TrackingModelConfig] = {
    "sam2.1-tiny": SAM2_1,
    "sam2.1-small": SAM2_1,
    "sam2.1-base-plus": SAM2_1,
    "sam2.1-large": SAM2_1,
    "micro": TrackingModelConfig(
        embed_dim=128,
        iou_hidden_dim=128,
        memory_dim=32,
        memory_attention_layers=2,
        memory_attention_hidden_dim=512,
        decoder_hidden_dim=512,
        image_size=256,
    ),
    "test": TrackingModelConfig(
        embed_dim=64,
        iou_hidden_dim=64,
        memory_dim=16,
        memory_attention_layers=2,
        memory_attention_hidden_dim=256,
        decoder_hidden_dim=256,
        image_size=256,
        trained=False,
    ),
    "sam3": SAM3,
    "sam3-test": replace(
        SAM3,
        embed_dim=128,
        memory_attention_layers=2,
        memory_attention_hidden_dim=256,
        image_size=168,
        size_multiple=56,
        trained=False,
        detector=DetectorConfig(
            trunk_dim=64,
            dim=128,
            hidden_dim=256,
            encoder_layers=2,
            decoder_layers=3,
            exemplar_layers=2,
            text_dim=64,
            text_heads=4,
            text_layers=3,
        ),
    ),
}
