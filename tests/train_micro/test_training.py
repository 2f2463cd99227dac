"""Training at small size: the loss falls, an interrupted run resumes, and the export matches the model."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from encoder_svc.model import weights as encoder_weights
from maskmesh.nn.checkpoint import check_keys
from tests.train_micro.sources import drawn_sources
from tools.train_micro.__main__ import main
from tools.train_micro.clips import (
    FIRST_PROMPTS,
    Clips,
    ClipsAndStills,
    clips_and_stills_loss,
    clips_loss,
)
from tools.train_micro.data.sources import Pool
from tools.train_micro.images import Stills, images_loss
from tools.train_micro.micro import PRESET, Micro, export, folded, start_from
from tools.train_micro.prompts import correcting_clicks, sample_box, sample_click
from tools.train_micro.scenes.compose import Composer
from tools.train_micro.trainer import LossFunction, Plan, Trainer

SIZE = 64
CPU = torch.device("cpu")


def plan(steps: int) -> Plan:
    return Plan(
        name="small", image_size=SIZE, steps=steps, batch=2, learning_rate=1e-3, warm_up=2,
        save_every=2, validate_every=100,
    )  # fmt: skip


def model() -> Micro:
    torch.manual_seed(0)
    return Micro(SIZE)


def phase(name: str) -> tuple[Dataset[dict[str, Tensor]], LossFunction]:
    composer = Composer(Pool(drawn_sources(4)), SIZE)
    if name == "images":
        return Stills(composer, (0, 1)), images_loss
    scenes = Clips(composer, (0, 2), (3, 5), batch=2)
    if name == "clips":
        return scenes, clips_loss
    return ClipsAndStills(scenes, Stills(composer, (0, 3))), clips_and_stills_loss


@pytest.mark.parametrize("name", ["images", "clips", "clips and stills"])
def test_resumed_run_matches_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    data, loss = phase(name)
    whole = Trainer(plan(4), model(), tmp_path / "whole", seed=0, device=CPU)
    whole.run(data, loss, lambda _: {}, workers=0)

    steps = itertools.count()

    def interrupted(*args: object) -> dict[str, Tensor]:
        if next(steps) == 3:
            raise KeyboardInterrupt
        return loss(*args)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        Trainer(plan(4), model(), tmp_path / "parts", seed=0, device=CPU).run(
            data, interrupted, lambda _: {}, workers=0
        )
    rest = Trainer(plan(4), model(), tmp_path / "parts", seed=0, device=CPU)
    assert rest.step == 2
    rest.run(data, loss, lambda _: {}, workers=0)

    for ours, theirs in ((rest.model, whole.model), (rest.average, whole.average)):
        for key, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value), key
    again = Trainer(plan(4), model(), tmp_path / "parts", seed=0, device=CPU)
    assert again.finished


def test_folder_of_another_plan_is_refused(tmp_path: Path) -> None:
    data, loss = phase("images")
    Trainer(plan(2), model(), tmp_path, seed=0, device=CPU).run(data, loss, lambda _: {}, workers=0)
    with pytest.raises(ValueError, match="another plan"):
        Trainer(plan(3), model(), tmp_path, seed=0, device=CPU)
    with pytest.raises(ValueError, match="another seed"):
        Trainer(plan(2), model(), tmp_path, seed=1, device=CPU)
    assert Trainer.average_of(tmp_path)


def test_average_of_an_unfinished_phase_is_refused(tmp_path: Path) -> None:
    data, loss = phase("images")
    calls = itertools.count()

    def interrupted(*arguments: Any) -> dict[str, Tensor]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return loss(*arguments)

    with pytest.raises(KeyboardInterrupt):
        Trainer(plan(4), model(), tmp_path, seed=0, device=CPU).run(
            data, interrupted, lambda _: {}, workers=0
        )
    with pytest.raises(ValueError, match="is not finished"):
        Trainer.average_of(tmp_path)
    with pytest.raises(FileNotFoundError):
        Trainer.average_of(tmp_path / "nothing")


def test_exported_weights_are_trained_further(tmp_path: Path) -> None:
    """The model that starts from an export computes the same, also with the statistics of a batch."""
    first = model()
    for module in first.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            assert module.running_var is not None
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    export(first, tmp_path / "micro.safetensors")
    frames = torch.randint(0, 256, (4, SIZE, SIZE, 3), dtype=torch.uint8)
    second = Micro(SIZE)
    start_from(second, tmp_path / "micro.safetensors", frames)
    with torch.no_grad():
        expected = first.eval().encode(frames)
        for further in (second.eval(), second.train()):
            for ours, theirs in zip(further.encode(frames), expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02 * float(theirs.abs().max()))


def test_loss_falls_on_repeated_data(tmp_path: Path) -> None:
    data, loss = phase("images")

    class Same(Dataset[dict[str, Tensor]]):
        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return data[index % 2]

    losses: list[float] = []

    def watched(*args: object) -> dict[str, Tensor]:
        found = loss(*args)  # type: ignore[arg-type]
        losses.append(float(found["box"].detach()))
        return found

    Trainer(plan(25), model(), tmp_path, seed=0, device=CPU).run(Same(), watched, lambda _: {}, workers=0)
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def seed_of(kind: str) -> int:
    """A seed with which the clips have the first prompt ``kind``."""
    for seed in itertools.count():
        chance = float(torch.rand(3, generator=torch.Generator().manual_seed(seed))[0])
        if kind == next((k for k, bound in FIRST_PROMPTS.items() if chance < bound), "mask"):
            return seed
    raise AssertionError


def test_every_weight_is_trained_in_some_phase() -> None:
    trained = model().train()
    # An object that is predicted out of sight has no object pointer of its own.
    *_, bias = trained.tracker.sam_mask_decoder.pred_obj_score_head.parameters()
    torch.nn.init.constant_(bias, 4.0)
    kinds = [seed_of(kind) for kind in ("click", "box", "logits", "mask")]
    for name, seeds in (("images", [0, 1]), ("clips", kinds)):
        data, loss = phase(name)
        for seed in seeds:
            batch = {key: torch.stack([data[0][key], data[1][key]]) for key in data[0]}
            losses = loss(trained, batch, torch.Generator().manual_seed(seed))
            torch.stack(list(losses.values())).sum().backward()
    # Now all objects are predicted out of sight, so the weights for absent objects are used.
    torch.nn.init.constant_(bias, -4.0)
    batch = {key: torch.stack([data[0][key], data[1][key]]) for key in data[0]}
    losses = loss(trained, batch, torch.Generator().manual_seed(kinds[0]))
    torch.stack(list(losses.values())).sum().backward()
    idle = {
        name
        for name, parameter in trained.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }
    # Official checkpoints have this weight, and no code reads it.
    assert idle <= {"tracker.no_mem_pos_enc"}


def test_only_the_last_frames_of_a_long_clip_have_losses() -> None:
    """The frames before them are tracked without gradients, into the same memory."""
    trained = model().train()
    data = Clips(Composer(Pool(drawn_sources(4)), SIZE), (0, 2), (6,), batch=2)
    batch = {key: torch.stack([data[0][key], data[1][key]]) for key in data[0]}

    def tracked(unrolled: int | None, *, inverted: int | None = None) -> float:
        masks = batch["masks"].clone()
        if inverted is not None:
            masks[:, inverted] ^= True
        generator = torch.Generator().manual_seed(seed_of("mask"))
        losses = clips_loss(trained, batch | {"masks": masks}, generator, unrolled=unrolled)
        assert losses["tracked"].requires_grad
        return float(losses["tracked"].detach())

    assert tracked(5) == tracked(None)
    assert tracked(2, inverted=3) == tracked(2)
    assert tracked(2, inverted=4) != tracked(2)
    assert tracked(2, inverted=5) != tracked(2)


def test_export_matches_the_model(tmp_path: Path) -> None:
    trained = model()
    frames = torch.randint(0, 256, (2, SIZE, SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        trained.train().encode(frames)  # so that batch norm statistics differ from their initial values
        trained.eval()
        expected = trained.encode(frames)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded(trained).modules())
        for ours, theirs in zip(folded(trained).encode(frames), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        export(trained, tmp_path / "micro.safetensors")
        served = folded(model())
        encoder_weights.load(served.encoder, load_file(tmp_path / "micro.safetensors"))
        for ours, theirs in zip(served.encode(frames), expected, strict=True):
            assert (ours - theirs).abs().max() < 0.01 * theirs.abs().max()
    state = load_file(tmp_path / "micro.safetensors")
    check_keys(PRESET, {key: tuple(value.shape) for key, value in state.items()})
    assert {value.dtype for value in state.values()} == {torch.float16}


def test_correcting_clicks_are_on_mask_errors() -> None:
    truth = torch.zeros(3, 16, 16)
    truth[:, 4:12, 4:12] = 1
    logits = torch.where(truth > 0, 5.0, -5.0)
    logits[0, :, :] = -5  # all of the object is missing
    logits[1, 13:16, 13:16] = 5  # a false positive region
    points, labels = correcting_clicks(logits, truth, 4.0, torch.Generator().manual_seed(0))
    assert labels[:, 0].tolist() == [1, 0, 1]
    cells = ((points[:, 0] + 0.5) / 4).long()
    assert truth[0, cells[0, 1], cells[0, 0]] == 1
    assert (cells[1] >= 13).all()
    assert truth[2, cells[2, 1], cells[2, 0]] == 1  # no error: another click on the object


def test_clicks_and_boxes_are_on_the_object() -> None:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:41, 5:50] = True
    random = np.random.default_rng(0)
    for _ in range(50):
        x, y = (int(v) for v in sample_click(mask, random))
        assert mask[y, x]
        (left, top), (right, bottom) = sample_box(mask, random)
        assert abs(left - 5) < 10
        assert abs(top - 20) < 5
        assert abs(right - 50) < 10
        assert abs(bottom - 41) < 5


def test_weights_between_two_exports(tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"{seed}.safetensors")
        export(Micro(64), paths[-1])
    mixed = tmp_path / "mixed.safetensors"
    result = CliRunner().invoke(
        main, ["interpolate", *map(str, paths), "--share", "0.25", "-o", str(mixed)], catch_exceptions=False
    )
    assert result.exit_code == 0
    first, second, between = (load_file(path) for path in (*paths, mixed))
    assert first.keys() == between.keys()
    for key, value in between.items():
        expected = 0.75 * first[key].float() + 0.25 * second[key].float()
        assert torch.allclose(value.float(), expected, atol=1e-3), key
