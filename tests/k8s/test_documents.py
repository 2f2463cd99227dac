"""Commands for Docker and Kubernetes in the documents name what the manifests have."""

import re

import pytest
import yaml

from tests.k8s.manifests import K8S

ROOT = K8S.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A command ends at the end of its line or of its code span.
KUBECTL = re.compile(r"kubectl ([^`\n]*)")
BUILD = re.compile(r"docker build ([^`\n]*)")
TAG = re.compile(r"-t ([\w./-]+:[\w.]+)")
OBJECT = re.compile(r"\b(service|deployment|statefulset)/([\w-]+)")

OBJECTS = {
    (found["kind"].lower(), found["metadata"]["name"])
    for path in (K8S / "base").glob("*.yaml")
    for found in yaml.safe_load_all(path.read_text())
    if found is not None and "metadata" in found
}
OVERLAYS = {
    path.parent.name: yaml.safe_load(path.read_text())
    for path in (K8S / "overlays").glob("*/kustomization.yaml")
}


def found_in_documents(pattern: re.Pattern[str]) -> list[str]:
    return [found for path in DOCUMENTS for found in pattern.findall(path.read_text())]


def test_kubectl_commands_name_objects_of_an_overlay() -> None:
    namespaces = {overlay["namespace"] for overlay in OVERLAYS.values()}
    named = [
        (command, *match) for command in found_in_documents(KUBECTL) for match in OBJECT.findall(command)
    ]
    assert len(named) >= 5
    for command, kind, name in named:
        assert (kind, name) in OBJECTS, command
        namespace = re.search(r"--namespace ([\w-]+)", command)
        assert namespace is not None, command
        assert namespace[1] in namespaces, command


@pytest.mark.parametrize("image", ["maskmesh", "maskmesh-cuda"])
def test_documents_build_the_images_of_the_dev_overlay(image: str) -> None:
    tags = {entry["name"]: entry["newTag"] for entry in OVERLAYS["dev"]["images"]}
    assert f"{image}:{tags[image]}" in found_in_documents(TAG)


def test_documents_build_images_with_a_tag_and_a_context() -> None:
    commands = found_in_documents(BUILD)
    assert len(commands) >= 3
    for command in commands:
        assert TAG.search(command), command
        assert command.endswith(" ."), command
