import torch

from encoder_svc.model import weights
from encoder_svc.model.config import PRESETS
from encoder_svc.model.hiera import merge_windows, partition_windows
from encoder_svc.model.preprocess import MEAN, STD, preprocess
from tests.golden import relative_error

CPU = torch.device("cpu")


@torch.inference_mode()
def test_a_batch_equals_its_images() -> None:
    encoder = weights.build(PRESETS["test"], None)
    images = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    batch = encoder(images)
    for index in range(2):
        for together, alone in zip(batch, encoder(images[index : index + 1]), strict=True):
            assert relative_error(together[index], alone[0]) < 1e-4


def test_windows_come_back() -> None:
    x = torch.randn(2, 13, 10, 3)
    windows = partition_windows(x, 4)
    assert windows.tokens.shape == (2 * 4 * 3, 4, 4, 3)
    assert torch.equal(merge_windows(windows, 4, 13, 10), x)


def test_preprocessing_normalises_without_resampling_what_fits() -> None:
    pixels = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    image = preprocess(pixels, 64, CPU, torch.float32)
    expected = (pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(image[0].permute(1, 2, 0), expected)


def test_preprocessing_antialiases() -> None:
    """A fine checkerboard becomes grey rather than noise."""
    rows, columns = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    board = (((rows + columns) % 2) * 255).to(torch.uint8)[..., None].expand(-1, -1, 3)
    image = preprocess(board, 64, CPU, torch.float32)
    grey = (0.5 - torch.tensor(MEAN)) / torch.tensor(STD)
    inside = image[0, :, 4:-4, 4:-4].flatten(1)
    torch.testing.assert_close(inside.mean(1), grey, atol=0.02, rtol=0)
    assert float(inside.std(1).max()) < 0.05
