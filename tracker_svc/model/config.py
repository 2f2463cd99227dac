"""Presets of the tracking model: one architecture for all sizes of SAM 2.1, and two small ones."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingModelConfig:
    """Hyperparameters of a tracking model; the defaults are those of all SAM 2.1 checkpoints.

    ``embed_dim`` is the number of channels of image embeddings and prompts, ``memory_dim`` that of
    memories.  ``memory_dim`` must divide ``embed_dim``, because an object pointer enters memory attention
    as ``embed_dim / memory_dim`` tokens.
    """

    embed_dim: int = 256
    memory_dim: int = 64
    memory_attention_layers: int = 4
    memory_attention_hidden_dim: int = 2048
    decoder_hidden_dim: int = 2048
    image_size: int = 1024
    trained: bool = True

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {self.image_size}")
        if self.embed_dim % self.memory_dim:
            raise ValueError("memory_dim must divide embed_dim")


SAM2_1 = TrackingModelConfig()

PRESETS: dict[str, TrackingModelConfig] = {
    "sam2.1-tiny": SAM2_1,
    "sam2.1-small": SAM2_1,
    "sam2.1-base-plus": SAM2_1,
    "sam2.1-large": SAM2_1,
    "micro": TrackingModelConfig(
        embed_dim=128,
        memory_dim=32,
        memory_attention_layers=2,
        memory_attention_hidden_dim=512,
        decoder_hidden_dim=512,
        image_size=256,
    ),
    "test": TrackingModelConfig(
        embed_dim=64,
        memory_dim=16,
        memory_attention_layers=2,
        memory_attention_hidden_dim=256,
        decoder_hidden_dim=256,
        image_size=256,
        trained=False,
    ),
}
