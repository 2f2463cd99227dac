"""What presets set, and what fits a machine."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from maskmesh.cli.batch.items import find_items
from maskmesh.cli.main import main
from maskmesh.cli.mesh import mesh_options
from maskmesh.cli.mesh.presets import PRESET_NAMES, needed_bytes, plan, preset
from maskmesh.cli.mesh.resources import Resources, instruction_sets
from maskmesh.cli.tune.measure import Measured, agreement
from maskmesh.masks import BoolArray, RleMask
from tests.corpus.video_files import write

GIB = 2**30


def machine(gib: float, *, cores: int = 2, amx: bool = True, device_gib: float = 0) -> Resources:
    return Resources(cores, int(gib * GIB), "the container's limit", amx, int(device_gib * GIB))


@pytest.mark.parametrize("model", ["micro", "sam2.1-tiny", "sam2.1-large", "sam3"])
def test_presets_are_ordered(model: str) -> None:
    sizes = [preset(model, name).image_size for name in PRESET_NAMES]
    assert sizes == sorted(sizes)
    needs = [needed_bytes(model, preset(model, name)) for name in PRESET_NAMES]
    assert needs == sorted(needs)
    assert preset(model, "ultra").dtype == "float32"


@pytest.mark.parametrize(
    ("model", "gib", "chosen"),
    [
        ("micro", 2, "high"),
        ("sam2.1-tiny", 2, "draft"),
        ("sam2.1-tiny", 4, "high"),
        ("sam2.1-tiny", 8, "high"),
        ("sam3", 8, "balanced"),
        ("sam3", 16, "high"),
    ],
)
def test_the_best_preset_that_fits_the_memory_is_chosen(model: str, gib: int, chosen: str) -> None:
    made = plan(model, machine(gib))
    assert made.settings.name == chosen
    assert made.reasons[0] == f"memory {gib:.1f} GiB (the container's limit)"
    caches = sum(
        budget or 0
        for budget in (made.settings.cache_bytes, made.settings.embedding_bytes, made.settings.decoder_bytes)
    )
    assert needed_bytes(model, made.settings) + caches <= gib * GIB


def test_a_long_video_gets_a_faster_preset_and_the_reason() -> None:
    short = plan("sam2.1-tiny", machine(16, amx=False), num_frames=100)
    long = plan("sam2.1-tiny", machine(16, amx=False), num_frames=2000)
    assert (short.settings.name, long.settings.name) == ("high", "draft")
    assert any("min for 2000 frames" in reason for reason in long.reasons)


def test_an_accelerator_has_no_estimate_of_time() -> None:
    machine_with_gpu = replace(machine(64, cores=4, amx=False, device_gib=80), is_accelerator=True)
    assert plan("sam2.1-large", machine_with_gpu, num_frames=18_000).settings.name == "high"


def test_float32_takes_twice_the_memory() -> None:
    wide, narrow = (
        needed_bytes("sam2.1-tiny", plan("sam2.1-tiny", machine(16)).settings, wide=wide)
        for wide in (True, False)
    )
    assert wide > narrow
    made = plan("sam2.1-tiny", machine(3, amx=False))
    assert made.settings.name == "balanced"
    assert plan("sam2.1-tiny", machine(3, amx=False), dtype="bfloat16").settings.name == "high"


def test_the_size_that_the_user_chose_is_planned_for() -> None:
    made = plan("sam2.1-tiny", machine(16), image_size=512)
    assert (made.settings.name, made.settings.image_size) == ("high", 512)


def test_what_does_not_fit_at_all_is_said() -> None:
    made = plan("sam3", machine(4))
    assert (made.settings.name, made.fits) == ("draft", False)
    assert any("more than there is" in reason for reason in made.reasons)


def test_the_memory_of_a_device_counts() -> None:
    made = plan("sam2.1-tiny", machine(64, device_gib=1.5))
    assert made.settings.name == "draft"
    assert any("does not fit into the device" in reason for reason in made.reasons)


def test_flags_are_those_of_the_services() -> None:
    flags = plan("micro", machine(4)).settings.flags()
    assert flags["tracker"][:2] == ["--memory-frames", "6"]
    assert "--cache-bytes" in flags["encoder"]
    assert "--decoder-bytes" in flags["gateway"]


def test_unknown_models_have_no_presets(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    result = CliRunner().invoke(
        main, ["segment", str(tmp_path / "x.png"), "--point", "1,1", "--model", "other", "--preset", "draft"]
    )
    assert result.exit_code == 2
    assert "there are no presets for 'other'" in result.output


def test_a_preset_has_no_effect_on_a_running_mesh(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"x")
    result = CliRunner().invoke(
        main,
        [
            "segment",
            str(tmp_path / "x.mp4"),
            "--point",
            "1,1",
            "--preset",
            "draft",
            "--endpoint",
            "localhost:9",
        ],
    )
    assert "--preset has no effect with --endpoint" in result.output


def test_the_length_of_a_video_is_read_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write(path, range(7))
    assert mesh_options.video_length(path) == 7
    assert mesh_options.video_length(tmp_path) == 0
    (tmp_path / "text").write_text("no video")
    assert mesh_options.video_length(tmp_path / "text") == 0


def test_titles_in_any_encoding_do_not_matter(tmp_path: Path) -> None:
    """Old files have titles in other encodings than UTF-8."""
    with av.open(str(tmp_path / "titled.avi"), "w") as out:
        out.metadata["title"] = "Zo__"
        stream = out.add_stream("mjpeg", rate=10)
        stream.pix_fmt = "yuvj420p"
        for number in range(7):
            frame = av.VideoFrame.from_ndarray(np.full((480, 640, 3), number, dtype=np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    content = (tmp_path / "titled.avi").read_bytes()
    assert b"Zo__" in content
    titled = tmp_path / "videos" / "titled"  # without a suffix, its content tells that it is a video
    titled.parent.mkdir()
    titled.write_bytes(content.replace(b"Zo__", b"Zo\xeb!"))
    assert mesh_options.video_length(titled) == 7
    [item] = find_items(titled.parent, None, overlays=False)
    assert item.is_video


def test_instruction_sets_by_strength(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name : x\nflags : avx2 avx512f amx_bf16 sse\n")
    assert instruction_sets(tmp_path / "cpuinfo") == ["amx_bf16", "avx512f", "avx2"]
    assert instruction_sets(tmp_path / "none") == []


def test_agreement_is_the_mean_iou() -> None:
    full, half, none = np.ones((4, 4), bool), np.eye(4, dtype=bool), np.zeros((4, 4), bool)

    def run(*masks: BoolArray) -> Measured:
        return Measured(0, 0, 1, 0, 0, [{1: RleMask.encode(mask)} for mask in masks])

    assert agreement(run(full, none), run(full, none)) == 1
    assert agreement(run(half), run(full)) == 0.25
