"""Rendered manifests, and the configuration of each service in them."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())

# Each overlay, the base, each component alone, and combinations of components that change the same pods.
VARIANTS = (
    *(f"overlays/{name}" for name in OVERLAYS),
    "base",
    *(f"base+{name}" for name in COMPONENTS),
    "base+mtls+colocated",
    "base+colocated+network-policies",
    "base+gpu+mtls+keys+hpa",
    "overlays/dev+colocated",
    "overlays/prod+gpu",
)

SERVICES = ("gateway", "encoder", "tracker")


@cache
def render(variant: str, folder: Path) -> tuple[dict[str, Any], ...]:
    """All objects of a variant.

    If the variant adds components, its kustomization is written to ``folder``.
    """
    base, *components = variant.split("+")
    path = K8S / base
    if components:
        path = folder / variant
        path.mkdir(parents=True)
        made: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [K8S / base],
            "components": [],
        }
        if base.startswith("overlays/"):  # as somebody does who adds a component to an overlay
            made = yaml.safe_load((K8S / base / "kustomization.yaml").read_text())
        for kind in ("resources", "components"):
            entries = [(K8S / base / entry).resolve() for entry in made.get(kind, [])]
            made[kind] = [os.path.relpath(entry, path) for entry in entries]
        made["components"] += [os.path.relpath(K8S / "components" / name, path) for name in components]
        (path / "kustomization.yaml").write_text(yaml.safe_dump(made))
    # The generated kustomization refers to files outside its folder.
    command = ["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@dataclass(frozen=True)
class Deployed:
    """A maskmesh service as a variant deploys it."""

    name: str
    container: dict[str, Any]
    pod: dict[str, Any]
    labels: dict[str, str]
    environment: dict[str, str]

    def setting(self, name: str) -> str:
        """The value of the environment variable of a setting of this service."""
        return self.environment[f"MASKMESH_{self.name.upper()}_{name}"]


def workloads(objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """Deployments and StatefulSets."""
    return [o for o in objects if o["kind"] in ("Deployment", "StatefulSet")]


def deployed(objects: tuple[dict[str, Any], ...]) -> list[Deployed]:
    """The container and pod of each service, with the resolved environment variables."""
    maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
    found = []
    for workload in workloads(objects):
        template = workload["spec"]["template"]
        for container in template["spec"]["containers"]:
            if not container.get("command", [""])[0].startswith("maskmesh-"):
                continue
            environment: dict[str, str] = {}
            for source in container["envFrom"]:
                environment |= maps[source["configMapRef"]["name"]]
            for variable in container["env"]:
                environment[variable["name"]] = variable.get("value", "10.1.2.3")
            environment = {k: v.replace("$(POD_IP)", "10.1.2.3") for k, v in environment.items()}
            for name in ("POD_NAME", "POD_NAMESPACE", "NODE_NAME"):
                environment.pop(name, None)  # parts of OTEL_RESOURCE_ATTRIBUTES
            name = container["command"][0].removeprefix("maskmesh-")
            labels = template["metadata"]["labels"]
            found.append(Deployed(name, container, template["spec"], labels, environment))
    return found
