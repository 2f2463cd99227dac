"""Versions of what this project does not build are in one place, and everything agrees with it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from encoder_svc.config import EncoderSettings
from maskmesh.config import ModelSettings
from maskmesh.nn.checkpoint import bundled_weights
from tests.k8s.manifests import K8S, render, workloads
from tracker_svc.config import TrackerSettings

COMPOSE = yaml.safe_load((K8S.parent / "compose.yaml").read_text())
VERSIONS = {
    image["name"]: image["newTag"]
    for image in yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text())["images"]
}


def images(objects: tuple[dict[str, Any], ...]) -> set[str]:
    return {c["image"] for w in workloads(objects) for c in w["spec"]["template"]["spec"]["containers"]}


def test_manifests_use_the_versions_of_the_base(tmp_path: Path) -> None:
    foreign = {image for image in images(render("base", tmp_path)) if not image.startswith("maskmesh")}
    assert foreign == {f"{name}:{tag}" for name, tag in VERSIONS.items()}
    for path in K8S.glob("base/*.yaml"):
        for name in VERSIONS:
            assert f"image: {name}:" not in path.read_text(), f"{path} has a version of its own"


def test_compose_uses_the_versions_of_the_base() -> None:
    for service in COMPOSE["services"].values():
        name, _, tag = service["image"].partition(":")
        if name in VERSIONS:
            assert tag == VERSIONS[name]


def test_production_pins_foreign_images_by_digest(tmp_path: Path) -> None:
    text = (K8S / "overlays" / "prod" / "kustomization.yaml").read_text()
    for image in images(render("overlays/prod", tmp_path)):
        if "maskmesh" not in image:
            name, _, digest = image.partition("@")
            assert digest.startswith("sha256:"), image
            assert f"{digest} # {VERSIONS[name]}" in text, "the digest of another version"


def test_compose_mounts_files_that_exist() -> None:
    mounts = [m for service in COMPOSE["services"].values() for m in service.get("volumes", [])]
    assert len(mounts) > 5
    for mount in mounts:
        assert (K8S.parent / mount.split(":")[0]).is_file(), mount
    configs = [m for m in mounts if "/base/" in m or "/components/" in m]
    assert len(configs) == 5, "collector, Jaeger and its interface, rules, dashboard: the files of k8s"


@pytest.mark.parametrize("name", ["encoder", "tracker", "gateway"])
def test_compose_flags_are_settings(name: str) -> None:
    from tests.k8s.test_manifests import SETTINGS

    command, *flags = COMPOSE["services"][name]["command"]
    assert command == f"maskmesh-{name}"
    settings = SETTINGS[name](_cli_parse_args=flags)
    assert settings.host == "0.0.0.0"
    assert settings.metrics_port == 9464


@pytest.mark.parametrize("settings", [EncoderSettings, TrackerSettings])
def test_compose_runs_a_model_that_needs_no_checkpoint(
    settings: type[ModelSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in COMPOSE["x-service"]["environment"].items():
        monkeypatch.setenv(variable, value)
    made = settings(_cli_parse_args=[])
    assert made.checkpoint is not None or bundled_weights(made.model) is not None
