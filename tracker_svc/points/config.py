"""Presets of the point tracker; the encoder service has the same names for its part."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTrackerConfig:
    """Hyperparameters of TAPIR's point tracker; the defaults are those of causal BootsTAPIR.

    ``low_res_dim`` and ``high_res_dim`` are the channels of the two maps of the embedding.  ``iterations`` is
    the number of refinements of a frame, ``blocks`` that of the mixer's blocks, each with two convolutions
    over time.  A ``causal`` mixer reads the two frames before each, the other one a frame on either side.
    ``levels`` is the number of resolutions at which a point is compared with its surroundings.
    """

    low_res_dim: int = 256
    high_res_dim: int = 128
    hidden_dim: int = 512
    expansion: int = 4
    blocks: int = 12
    iterations: int = 4
    levels: int = 3
    patch_size: int = 7
    softmax_temperature: float = 20.0
    softmax_radius: float = 5.0
    causal: bool = True
    image_size: int = 256
    trained: bool = True

    def __post_init__(self) -> None:
        if self.image_size % 16:
            raise ValueError(f"image_size must be a multiple of 16, got {self.image_size}")

    @property
    def feature_dim(self) -> int:
        """Channels of what is known of a point: the features at both resolutions."""
        return self.high_res_dim + self.low_res_dim

    @property
    def memory_frames(self) -> int:
        """Number of preceding frames on which a frame's result can depend.

        Each convolution reads two frames back, and each refinement reads the result of the one before.
        """
        return self.iterations * self.blocks * 2 * 2


POINT_PRESETS: dict[str, PointTrackerConfig] = {
    "tapir": PointTrackerConfig(),
    # Random weights from a fixed seed: the code of TAPIR at a size that is small enough for tests.
    "tapir-test": PointTrackerConfig(
        low_res_dim=32, high_res_dim=16, hidden_dim=32, blocks=2, iterations=2, image_size=64, trained=False
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LucasKanadeConfig:
    """Optical flow between pictures in grey of ``image_size`` squared pixels; it has no weights."""

    image_size: int = 512
    trained: bool = False
