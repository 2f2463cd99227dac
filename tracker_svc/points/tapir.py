"""TAPIR's point tracker (Doersch et al., "TAPIR: Tracking Any Point with per-frame Initialization and
temporal Refinement", 2023), after the embedding of a frame.

A point is described by the features of its place in the frame in which it was chosen (*query features*).  On
each frame, its place is first estimated from that frame alone (*initialisation*), then refined in a few
iterations, each of which compares the surroundings of the estimate with what is known of the point, and mixes
in the frames before.

Positions are in pixels of the model's square input, x before y; the centre of the first pixel is at 0.5.
"""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmesh.nn.image_features import PointFeatures
from tracker_svc.points.config import PointTrackerConfig
from tracker_svc.points.local_scores import local_scores, sample
from tracker_svc.points.mixer import Mixer, MixerState


class PointQueries(NamedTuple):
    """The features of N points where they were chosen."""

    low_res: Tensor  # [N, C]
    high_res: Tensor  # [N, D]


class PointEstimate(NamedTuple):
    """Where N points are on T frames.

    ``occlusion`` and ``expected_distance`` are logits, of being hidden and of being far from the estimate.
    """

    positions: Tensor  # [N, T, 2], float32
    occlusion: Tensor  # [N, T], float32
    expected_distance: Tensor  # [N, T], float32

    @property
    def confidence(self) -> Tensor:
        """The probability that a point is in sight and close to its estimate, [N, T]."""
        return torch.sigmoid(-self.occlusion) * torch.sigmoid(-self.expected_distance)


class PointTrackingModel(nn.Module):
    """Computes the positions of points from the embeddings of frames."""

    def __init__(self, config: PointTrackerConfig) -> None:
        super().__init__()
        self.config = config
        self.torch_cost_volume_track_mods = nn.ModuleDict(
            {
                "hid1": nn.Conv2d(1, 16, 3, padding=1),
                "hid2": nn.Conv2d(16, 1, 3, padding=1),
                "hid3": nn.Conv2d(16, 32, 3, stride=2),
                "hid4": nn.Linear(32, 16),
                "occ_out": nn.Linear(16, 2),
            }
        )
        known = 4 + config.feature_dim
        scores = config.levels * config.patch_size**2
        self.torch_pips_mixer = Mixer(config, known + scores, known)

    def move_to(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Move and cast the weights."""
        return self.to(device, dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.torch_pips_mixer.linear.weight.dtype

    def query_features(self, frame: PointFeatures, positions: Tensor) -> PointQueries:
        """The features of points at ``positions``, [N, 2], on one frame."""
        grid = positions / self.config.image_size
        return PointQueries(sample(frame.point_features, grid), sample(frame.high_res_point_features, grid))

    def initialize(self, frames: PointFeatures, queries: PointQueries) -> PointEstimate:
        """Estimate the positions of N points on T frames, on each frame alone.

        ``frames`` are the embeddings of T frames as a batch.
        """
        layers = self.torch_cost_volume_track_mods
        num_frames, _, height, width = frames.point_features.shape
        similarity = queries.low_res @ frames.point_features.flatten(2)  # [T, N, H * W]
        hidden = F.relu(layers["hid1"](similarity.reshape(-1, 1, height, width)))
        heat = layers["hid2"](hidden).float().flatten(1) * self.config.softmax_temperature
        cells = _soft_argmax(heat.softmax(dim=-1), height, width, self.config.softmax_radius)
        scale = self.config.image_size / cells.new_tensor([width, height])
        summary = F.relu(layers["hid3"](F.pad(hidden, (0, 2, 0, 2)))).mean(dim=(-1, -2))
        logits = layers["occ_out"](F.relu(layers["hid4"](summary))).float()
        positions, logits = (
            x.unflatten(0, (num_frames, -1)).transpose(0, 1) for x in (cells * scale, logits)
        )
        return PointEstimate(positions, logits[..., 0], logits[..., 1])

    def initial_state(self, num_points: int) -> list[MixerState]:
        """The state of points that have not been on any frame, one for each iteration."""
        config, weight = self.config, self.torch_pips_mixer.linear.weight
        shape = (config.blocks, num_points, 2)
        return [
            MixerState(
                weight.new_zeros(*shape, config.hidden_dim),
                weight.new_zeros(*shape, config.expansion * config.hidden_dim),
            )
            for _ in range(config.iterations)
        ]

    def refine(
        self,
        frames: PointFeatures,
        queries: PointQueries,
        estimate: PointEstimate,
        states: list[MixerState] | None,
    ) -> list[PointEstimate]:
        """Refine the positions of N points on T consecutive frames.

        ``states`` are those after the frame before, one for each iteration, and are changed to those after
        these frames; None for a mixer that is not causal.  Returns the estimate after each iteration.
        """
        pyramid = [frames.high_res_point_features, frames.point_features]
        for _ in range(self.config.levels - 2):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2))
        num_frames = len(frames.point_features)
        known = torch.cat(queries[::-1], dim=-1).unsqueeze(1).expand(-1, num_frames, -1)
        estimates = []
        for iteration in range(self.config.iterations):
            state = None if states is None else states[iteration]
            estimate, known = self._iterate(pyramid, known, estimate, state)
            estimates.append(estimate)
        return estimates

    def _iterate(
        self, pyramid: list[Tensor], known: Tensor, estimate: PointEstimate, state: MixerState | None
    ) -> tuple[PointEstimate, Tensor]:
        """One refinement.  ``known`` is [N, T, D + C], what is known of each point so far."""
        high_res, low_res = known.split([self.config.high_res_dim, self.config.low_res_dim], dim=-1)
        grid = estimate.positions / self.config.image_size
        descriptions = [high_res] + [low_res] * (len(pyramid) - 1)
        scores = [
            local_scores(features, description, grid, self.config.patch_size)
            for features, description in zip(pyramid, descriptions, strict=True)
        ]
        logits = torch.stack([estimate.occlusion, estimate.expected_distance], dim=-1)
        # The position itself is not an input: it is given as zeros.
        inputs = torch.cat([torch.zeros_like(estimate.positions), logits, known.float(), *scores], dim=-1).to(
            known.dtype
        )
        update = self.torch_pips_mixer(inputs, state)
        change = update[..., :4].float()
        estimate = PointEstimate(
            estimate.positions + change[..., :2],
            estimate.occlusion + change[..., 2],
            estimate.expected_distance + change[..., 3],
        )
        return estimate, known + update[..., 4:]


def _soft_argmax(heat: Tensor, height: int, width: int, radius: float) -> Tensor:
    """The mean position of the cells around the warmest one, weighted by their heat.

    heat: [B, H * W], at least 0.  Returns [B, 2] in cells, x before y; the centre of the first cell is at
    0.5.
    """
    ys, xs = torch.meshgrid(
        torch.arange(height, device=heat.device) + 0.5,
        torch.arange(width, device=heat.device) + 0.5,
        indexing="ij",
    )
    cells = torch.stack([xs, ys], dim=-1).flatten(0, 1)
    warmest = cells[heat.argmax(dim=-1)]
    is_near = (cells - warmest[:, None]).square().sum(dim=-1) < radius**2
    weights = heat * is_near
    return (weights @ cells) / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
