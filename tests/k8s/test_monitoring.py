"""Prometheus rules and dashboard: promtool checks, and agreement with the metrics of the services."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskmesh.telemetry import metrics
from tests.k8s.manifests import K8S

FOLDER = K8S / "components" / "monitoring"

# A maskmesh metric, an RPC metric of the OpenTelemetry conventions, or a recorded metric.
_METRIC = re.compile(r"\b(?:maskmesh[:_]|rpc_server_)[a-zA-Z_:0-9]+")
_SUFFIXES = ("_total", "_seconds", "_bytes", "_count", "_sum", "_bucket")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "arguments", [("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")]
)
def test_promtool_passes(arguments: tuple[str, ...]) -> None:
    said = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def rules() -> list[dict[str, str]]:
    content = yaml.safe_load((FOLDER / "rules.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def test_operator_resource_has_the_same_rules() -> None:
    resource = yaml.safe_load((FOLDER / "prometheus-rule.yaml").read_text())
    assert resource["spec"] == yaml.safe_load((FOLDER / "rules.yaml").read_text())


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return found


def test_every_alert_is_tested() -> None:
    tested = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]
    alerts = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert alerts == {rule["alert"] for rule in rules() if "alert" in rule}


def declared() -> set[str]:
    """Names of the metrics in the code, in Prometheus form without the suffixes of unit and kind."""
    constants = {v for k, v in vars(metrics).items() if k.isupper() and isinstance(v, str)}
    root = Path(metrics.__file__).parents[2]
    for path in (*root.glob("*_svc/**/*.py"), *root.glob("gateway/**/*.py")):
        constants |= set(re.findall(r'"(maskmesh\.[a-z_.]+)"', path.read_text()))
    return {name.replace(".", "_") for name in constants}


def test_queried_metrics_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [rule["expr"] for rule in rules()]
    expressions += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for name in ("encoder", "tracker", "gateway"):
        scaling = yaml.safe_load((K8S / "components" / "hpa" / f"{name}.yaml").read_text())
        expressions += [trigger["metadata"]["query"] for trigger in scaling["spec"]["triggers"]]
    names = {name for expression in expressions for name in _METRIC.findall(expression)}
    assert len(names) > 15
    for name in names - recorded:
        plain = name
        while plain not in declared() and plain.endswith(_SUFFIXES):
            plain = plain[: plain.rindex("_")]
        assert plain in declared(), name


def test_dashboard_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    identities = [panel["id"] for panel in panels()]
    assert len(set(identities)) == len(identities)
