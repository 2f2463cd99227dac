from dataclasses import replace

import torch
import torch.nn.functional as F

from encoder_svc.model import weights
from encoder_svc.model.config import IMAGENET, PRESETS
from encoder_svc.model.hiera import max_pool
from encoder_svc.model.image_encoder import project_through
from encoder_svc.model.preprocess import preprocess
from encoder_svc.model.token_map import TokenMap, merge_windows, partition_windows
from tests.golden import relative_error

CPU = torch.device("cpu")


@torch.inference_mode()
def test_batch_matches_single_images() -> None:
    encoder = weights.build(PRESETS["test"], None)
    images = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    batch = encoder(images)
    for index in range(2):
        for together, alone in zip(batch, encoder(images[index : index + 1]), strict=True):
            assert relative_error(together[index], alone[0]) < 1e-4


def test_window_partition_round_trips() -> None:
    x = torch.randn(2, 13, 10, 3)
    windows = partition_windows(x, 4)
    assert windows.shape == (2 * 4 * 3, 4, 4, 3)
    assert torch.equal(merge_windows(windows, 13, 10), x)


def test_token_map_changes_window_size() -> None:
    x = TokenMap(torch.randn(2, 16, 8, 3), 16, 8)
    assert torch.equal(x.cut(8).cut(4).tokens, x.cut(4).tokens)
    assert torch.equal(x.cut(4).cut(0).tokens, x.tokens)
    assert x.fits(4)
    assert not x.fits(3)


def test_pooling_in_windows_matches_pooling_the_map() -> None:
    x = TokenMap(torch.randn(2, 16, 8, 3), 16, 8)
    pooled = F.max_pool2d(x.tokens.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.equal(max_pool(x.tokens), pooled)
    assert torch.equal(TokenMap(max_pool(x.cut(4).tokens), 8, 4, 2).cut(0).tokens, pooled)


@torch.inference_mode()
def test_fused_projections_match_sequential_ones() -> None:
    first, second = torch.nn.Conv2d(12, 32, 1), torch.nn.Conv2d(32, 4, 1)
    x = torch.randn(2, 12, 8, 8)
    torch.testing.assert_close(project_through(first, second, x), second(first(x)))


@torch.inference_mode()
def test_position_embedding_follows_the_image_size() -> None:
    """The position embedding is cached for the configured image size only."""
    small = weights.build(replace(PRESETS["test"], image_size=128), None)
    large = weights.build(PRESETS["test"], None)
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for one, other in zip(small(image), large(image), strict=True):
        torch.testing.assert_close(one, other)


def test_preprocessing_does_not_resample_matching_size() -> None:
    pixels = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    image = preprocess(pixels, 64, CPU, torch.float32)
    expected = (pixels / 255 - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    torch.testing.assert_close(image[0].permute(1, 2, 0), expected)


def test_preprocessing_antialiases() -> None:
    """A fine checkerboard becomes uniform grey."""
    rows, columns = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    board = (((rows + columns) % 2) * 255).to(torch.uint8)[..., None].expand(-1, -1, 3)
    image = preprocess(board, 64, CPU, torch.float32)
    grey = (0.5 - torch.tensor(IMAGENET.mean)) / torch.tensor(IMAGENET.std)
    inside = image[0, :, 4:-4, 4:-4].flatten(1)
    torch.testing.assert_close(inside.mean(1), grey, atol=0.02, rtol=0)
    assert float(inside.std(1).max()) < 0.05
