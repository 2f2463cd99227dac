"""Presets of the image encoder."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Normalization(NamedTuple):
    """Mean and standard deviation of each channel, which is scaled to 0 to 1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Channels from 0 to 1.
UNCHANGED = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
# With which SAM 2 and SAM 3 were trained.
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SYMMETRIC = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class HieraConfig:
    """Hyperparameters of a Hiera trunk.

    ``stages`` is the number of blocks of each of the four stages.  ``window_sizes`` is the side of the
    attention windows of each stage in patches; the blocks in ``global_attention_blocks`` attend to the
    whole image instead.  ``background_size`` is the size of the position embedding in the checkpoint,
    before it is interpolated to the patch grid.
    """

    dim: int
    heads: int
    stages: tuple[int, int, int, int]
    global_attention_blocks: tuple[int, ...]
    window_sizes: tuple[int, int, int, int] = (8, 4, 14, 7)
    background_size: tuple[int, int] = (7, 7)

    def __post_init__(self) -> None:
        if max(self.global_attention_blocks) >= sum(self.stages):
            raise ValueError("global_attention_blocks contains the index of a block that does not exist")

    @property
    def dims(self) -> tuple[int, int, int, int]:
        """The widths of the maps at strides 4, 8, 16 and 32."""
        return self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualTrunkConfig:
    """Hyperparameters of a residual trunk: channels and blocks of each stage, heads of the last stage."""

    dims: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTransformerConfig:
    """Hyperparameters of the trunk of SAM 3.

    ``window_size`` is the side of the attention windows in patches; the blocks in
    ``global_attention_blocks`` attend to the whole image instead.  ``pretrained_grid`` is the side of the
    position embedding in the checkpoint, which is tiled.
    """

    dim: int
    depth: int
    heads: int
    mlp_dim: int
    global_attention_blocks: tuple[int, ...]
    window_size: int
    pretrained_grid: int
    patch_size: int = 14

    def __post_init__(self) -> None:
        if max(self.global_attention_blocks) >= self.depth:
            raise ValueError("global_attention_blocks contains the index of a block that does not exist")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEncoderConfig:
    """Hyperparameters of an image encoder with a neck.

    ``embed_dim`` is the number of channels of the embedding, ``image_size`` the side of the input in
    pixels.
    """

    trunk: HieraConfig | ResidualTrunkConfig
    embed_dim: int = 256
    image_size: int = 1024
    trained: bool = True
    normalization: Normalization = IMAGENET

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {self.image_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkEncoderConfig:
    """Hyperparameters of an image encoder whose embedding is the map of its trunk.

    ``image_size`` is the side of the input in pixels, a multiple of a window.
    """

    trunk: VisionTransformerConfig
    image_size: int = 1008
    trained: bool = True
    normalization: Normalization = SYMMETRIC

    def __post_init__(self) -> None:
        window = self.trunk.patch_size * self.trunk.window_size
        if self.image_size % window:
            raise ValueError(f"image_size must be a multiple of {window}, got {self.image_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointBackboneConfig:
    """Hyperparameters of the backbone of TAPIR.

    ``channels`` are those of the stages at strides 2, 4, 8 and 8; ``image_size`` is the side of the input in
    pixels.
    """

    channels: tuple[int, int, int, int] = (64, 128, 256, 256)
    blocks_per_stage: int = 2
    extra_blocks: int = 5
    image_size: int = 256
    trained: bool = True
    normalization: Normalization = SYMMETRIC

    def __post_init__(self) -> None:
        if self.image_size % 16:
            raise ValueError(f"image_size must be a multiple of 16, got {self.image_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyConfig:
    """A picture in grey of ``image_size`` squared pixels, which needs no weights."""

    image_size: int = 512
    trained: bool = False
    normalization: Normalization = UNCHANGED


EncoderConfig: TypeAlias = ImageEncoderConfig | TrunkEncoderConfig


PRESETS: dict[str, EncoderConfig] = {
    "sam2.1-tiny": ImageEncoderConfig(
        trunk=HieraConfig(dim=96, heads=1, stages=(1, 2, 7, 2), global_attention_blocks=(5, 7, 9))
    ),
    "sam2.1-small": ImageEncoderConfig(
        trunk=HieraConfig(dim=96, heads=1, stages=(1, 2, 11, 2), global_attention_blocks=(7, 10, 13))
    ),
    "sam2.1-base-plus": ImageEncoderConfig(
        trunk=HieraConfig(
            dim=112,
            heads=2,
            stages=(2, 3, 16, 3),
            global_attention_blocks=(12, 16, 20),
            background_size=(14, 14),
        )
    ),
    "sam2.1-large": ImageEncoderConfig(
        trunk=HieraConfig(
            dim=144,
            heads=2,
            stages=(2, 6, 36, 4),
            global_attention_blocks=(23, 33, 43),
            window_sizes=(8, 4, 16, 8),
        )
    ),
    # Trained by this project and shipped with it; MODEL_CARD.md describes its training and its intended
    # use.
    "micro": ImageEncoderConfig(
        trunk=ResidualTrunkConfig(dims=(48, 96, 160, 192), blocks=(2, 3, 2, 2), heads=6),
        embed_dim=128,
        image_size=256,
    ),
    # Random weights from a fixed seed: the code of the SAM 2.1 presets at a size that is small enough for
    # tests.
    "test": ImageEncoderConfig(
        trunk=HieraConfig(dim=32, heads=1, stages=(1, 1, 2, 1), global_attention_blocks=(3,)),
        embed_dim=64,
        image_size=256,
        trained=False,
    ),
    "sam3": TrunkEncoderConfig(
        trunk=VisionTransformerConfig(
            dim=1024,
            depth=32,
            heads=16,
            mlp_dim=4736,
            global_attention_blocks=(7, 15, 23, 31),
            window_size=24,
            pretrained_grid=24,
        )
    ),
    # Random weights from a fixed seed: the code of SAM 3 at a size that is small enough for tests.
    "sam3-test": TrunkEncoderConfig(
        trunk=VisionTransformerConfig(
            dim=64,
            depth=4,
            heads=4,
            mlp_dim=296,
            global_attention_blocks=(1, 3),
            window_size=4,
            pretrained_grid=4,
        ),
        image_size=168,
        trained=False,
    ),
}

POINT_PRESETS: dict[str, PointBackboneConfig | GreyConfig] = {
    "tapir": PointBackboneConfig(),
    # Random weights from a fixed seed: the code of TAPIR at a size that is small enough for tests.
    "tapir-test": PointBackboneConfig(
        channels=(16, 16, 32, 32), blocks_per_stage=1, extra_blocks=1, image_size=64, trained=False
    ),
    # No model: the picture in grey, which the tracker service searches for the points.
    "lucas-kanade": GreyConfig(),
}
