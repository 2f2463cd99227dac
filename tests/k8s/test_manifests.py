"""The manifests match the schemas of their APIs and the settings of the services."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from pydantic_settings import BaseSettings

import maskmesh
from encoder_svc.config import EncoderSettings
from gateway.config import GatewaySettings
from maskmesh.config import ServerSettings
from maskmesh.rpc.server import LIVE
from maskmesh.telemetry.config import TelemetrySettings
from tests.k8s.manifests import SERVICES, VARIANTS, Deployed, deployed, render, workloads
from tests.k8s.schemas import SPECS
from tracker_svc.config import TrackerSettings

KUBERNETES = "1.34"

SETTINGS: dict[str, type[ServerSettings]] = {
    "encoder": EncoderSettings,
    "tracker": TrackerSettings,
    "gateway": GatewaySettings,
}

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

Objects = tuple[dict[str, Any], ...]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kustomizations")


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def objects(variant: str, folder: Path) -> Objects:
    return render(variant, folder)


@pytest.fixture
def services(objects: Objects) -> list[Deployed]:
    found = deployed(objects)
    assert sorted(service.name for service in found) == sorted(SERVICES)
    return found


def of_kind(objects: Objects, kind: str) -> list[dict[str, Any]]:
    return [o for o in objects if o["kind"] == kind]


def test_objects_are_valid(objects: Objects) -> None:
    for made in objects:
        kind = made["apiVersion"], made["kind"]
        if kind in SPECS:
            jsonschema.validate(made["spec"], SPECS[kind])
        else:
            kubernetes_validate.validate(made, KUBERNETES, strict=True)


def test_object_names_are_unique(objects: Objects) -> None:
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(names)) == len(names)


def _aliases(settings: type[BaseSettings]) -> set[str]:
    """Environment variables of settings without a service prefix."""
    found: set[str] = set()
    for field in settings.model_fields.values():
        alias = field.validation_alias
        choices = getattr(alias, "choices", [alias])
        found |= {choice for choice in choices if isinstance(choice, str) and choice.isupper()}
    return found


def test_every_variable_is_a_setting(services: list[Deployed]) -> None:
    """A service silently ignores a misspelt variable."""
    shared = {"GOMP_SPINCOUNT", "MALLOC_ARENA_MAX", "POD_IP"} | _aliases(TelemetrySettings)
    shared |= {"OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_CERTIFICATE"}  # read by OpenTelemetry itself
    for service in services:
        shared |= _aliases(SETTINGS[service.name])
    known = {f"MASKMESH_{name.upper()}_{field.upper()}" for name in SERVICES for field in _fields(name)}
    for service in services:
        assert service.environment.keys() <= known | shared


def _fields(name: str) -> list[str]:
    return list(SETTINGS[name].model_fields)


def test_settings_have_the_intended_values(services: list[Deployed], monkeypatch: pytest.MonkeyPatch) -> None:
    for service in services:
        with monkeypatch.context() as patched:
            for name, value in service.environment.items():
                patched.setenv(name, value)
            settings = SETTINGS[service.name](_cli_parse_args=[])
            assert settings.host == "0.0.0.0"
            ports = {
                port["name"].removeprefix("encoder-"): port["containerPort"]
                for port in service.container["ports"]
            }
            assert ports == {
                "grpc": settings.port,
                "health": settings.health_port,
                "metrics": settings.metrics_port,
            }
            # The ports in the README and in the commands.
            assert settings.port == SETTINGS[service.name].model_fields["port"].default
            assert service.pod["terminationGracePeriodSeconds"] > settings.drain_seconds + 5
            assert settings.max_connection_age_seconds > 0
            if isinstance(settings, GatewaySettings):
                assert settings.encoder == "dns:///encoder:50051"
                assert settings.tracker == "dns:///tracker:50052"


def test_services_agree_on_model_type_and_stores(services: list[Deployed]) -> None:
    by_name = {service.name: service for service in services}
    for setting in ("MODEL", "DTYPE"):
        assert by_name["encoder"].setting(setting) == by_name["tracker"].setting(setting)
    assert len({service.environment["MASKMESH_SESSION_URL"] for service in services}) == 1
    for name in ("encoder", "tracker"):
        assert by_name[name].setting("ADVERTISE").startswith("10.1.2.3:")


def test_files_of_settings_are_mounted(services: list[Deployed]) -> None:
    for service in services:
        mounts = {mount["mountPath"]: mount for mount in service.container["volumeMounts"]}
        volumes = {volume["name"] for volume in service.pod["volumes"]}
        assert {mount["name"] for mount in mounts.values()} <= volumes
        for name, value in service.environment.items():
            is_own = name.startswith((f"MASKMESH_{service.name.upper()}_", "MASKMESH_TLS_"))
            if is_own and value.startswith("/"):
                assert any(value.startswith(path) for path in mounts), (service.name, name)


def test_mutual_tls_is_required_by_encoder_and_tracker(variant: str, services: list[Deployed]) -> None:
    is_encrypted = "mtls" in variant or "prod" in variant
    for service in services:
        assert bool(service.environment.get("MASKMESH_TLS_CERT")) == is_encrypted
        asks = bool(service.environment.get("MASKMESH_TLS_CLIENT_CA"))
        assert asks == (is_encrypted and service.name != "gateway")


def test_certificates_have_the_expected_server_name(objects: Objects, services: list[Deployed]) -> None:
    certificates = of_kind(objects, "Certificate")
    secrets = {made["spec"]["secretName"]: made["spec"] for made in certificates}
    for service in services:
        if name := service.environment.get("MASKMESH_TLS_SERVER_NAME"):
            spec = secrets[f"{service.name}-tls"]
            assert name in spec["dnsNames"]
            assert set(spec["usages"]) == {"server auth", "client auth"}


def test_probes_use_the_plain_health_port(services: list[Deployed]) -> None:
    for service in services:
        port = int(service.setting("HEALTH_PORT"))
        for kind, name in (("startupProbe", None), ("readinessProbe", None), ("livenessProbe", LIVE)):
            probe = service.container[kind]["grpc"]
            assert (probe["port"], probe.get("service")) == (port, name)
        startup = service.container["startupProbe"]
        # Enough time to load a large checkpoint from a slow disk.
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_service_ports_match_pod_ports(objects: Objects) -> None:
    pods = [w["spec"]["template"] for w in workloads(objects)]
    for made in of_kind(objects, "Service"):
        selector = made["spec"]["selector"]
        chosen = [p for p in pods if selector.items() <= p["metadata"]["labels"].items()]
        assert len(chosen) == 1, made["metadata"]["name"]
        numbers = {
            port["name"]: port["containerPort"]
            for container in chosen[0]["spec"]["containers"]
            for port in container["ports"]
        }
        for port in made["spec"]["ports"]:
            assert numbers[port["targetPort"]] == port["port"]
        is_ours = made["metadata"]["name"] in SERVICES
        assert (made["spec"].get("clusterIP") == "None") == is_ours


def test_prometheus_annotations_match_metrics_ports(objects: Objects, services: list[Deployed]) -> None:
    told = {
        made["metadata"]["name"]: made["metadata"]["annotations"]["prometheus.io/port"]
        for made in of_kind(objects, "Service")
        if "annotations" in made["metadata"]
    }
    assert told == {service.name: service.setting("METRICS_PORT") for service in services}


def test_pods_are_restricted(variant: str, objects: Objects) -> None:
    for workload in workloads(objects):
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            # Overlays set the tag of the maskmesh image.
            assert ":" in container["image"] or not variant.startswith("overlays/")


def test_replicas_are_spread_and_have_a_budget(objects: Objects, services: list[Deployed]) -> None:
    budgets = [made["spec"]["selector"]["matchLabels"] for made in of_kind(objects, "PodDisruptionBudget")]
    for service in services:
        assert any(budget.items() <= service.labels.items() for budget in budgets)
        spread = service.pod["topologySpreadConstraints"][0]
        assert spread["labelSelector"]["matchLabels"].items() <= service.labels.items()


def test_autoscaled_workloads_set_no_replicas(objects: Objects) -> None:
    targets = {made["spec"]["scaleTargetRef"]["name"] for made in of_kind(objects, "ScaledObject")}
    for workload in workloads(objects):
        assert ("replicas" in workload["spec"]) == (workload["metadata"]["name"] not in targets)


def test_queue_exceeds_the_scaling_threshold(objects: Objects, services: list[Deployed]) -> None:
    (encoder,) = (service for service in services if service.name == "encoder")
    places = encoder.environment.get(
        "MASKMESH_ENCODER_MAX_INTERACTIVE_QUEUE", EncoderSettings().max_interactive_queue
    )
    for made in of_kind(objects, "ScaledObject"):
        triggers = {t["name"]: float(t["metadata"]["threshold"]) for t in made["spec"]["triggers"]}
        if made["metadata"]["name"] == "encoder":
            assert triggers["queue"] <= int(places) / 2
        # What is refused waits nowhere, so the queue alone would not tell how much is missing.
        assert "refused" in made["spec"]["triggers"][0]["metadata"]["query"]


def test_session_limits_fit_the_volume(services: list[Deployed]) -> None:
    for service in services:
        if service.name == "encoder":
            continue
        each = "MAX_SESSION_BYTES" if service.name == "gateway" else "SESSION_DISK_BYTES"
        most = int(service.setting("MAX_SESSIONS")) * int(service.setting(each))
        volume = next(v["emptyDir"] for v in service.pod["volumes"] if v["name"] == "data")
        assert most <= int(volume["sizeLimit"].removesuffix("Gi")) * 2**30


def test_reflection_is_enabled_only_in_dev(variant: str, services: list[Deployed]) -> None:
    for service in services:
        is_on = service.environment.get(f"MASKMESH_{service.name.upper()}_REFLECTION") == "true"
        assert is_on == ("dev" in variant)


def test_commands_are_scripts_of_the_package(services: list[Deployed]) -> None:
    root = Path(maskmesh.__file__).parents[1]
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    assert {service.container["command"][0] for service in services} <= scripts.keys()


# Caller, callee and port of each connection.
CALLS = {
    ("gateway", "encoder", 50051),
    ("gateway", "tracker", 50052),
    ("tracker", "encoder", 50051),
    ("gateway", "redis", 6379),
    ("tracker", "redis", 6379),
    ("encoder", "cache", 6379),
    *((name, "collector", 4317) for name in SERVICES),
    ("collector", "jaeger", 4317),
}

# OTLP over HTTP is open to applications, which no policy of the mesh selects.
OPEN_PORTS = {4318}


@pytest.mark.parametrize(
    "variant", ["base+network-policies", "base+colocated+network-policies", "overlays/prod"], indirect=True
)
def test_network_policies_allow_exactly_the_calls(objects: Objects) -> None:
    pods = {w["metadata"]["name"]: w["spec"]["template"]["metadata"]["labels"] for w in workloads(objects)}
    ports = {
        w["metadata"]["name"]: [
            port["containerPort"]
            for container in w["spec"]["template"]["spec"]["containers"]
            for port in container["ports"]
        ]
        for w in workloads(objects)
    }
    policies = [made["spec"] for made in of_kind(objects, "NetworkPolicy")]
    calls = CALLS | {("tracker", "cache", 6379)}  # for an encoder in the tracker's pod
    if "encoder" not in pods:  # colocated: the encoder runs in the tracker's pod
        moved = {"encoder": "tracker"}  # the tracker's pod makes the calls of both
        calls = {(moved.get(a, a), moved.get(b, b), port) for a, b, port in calls}
    allowed = {
        (a, b, port)
        for a in pods
        for b in pods
        for port in ports[b]
        if _lets(policies, "Egress", pods[a], pods[b], port)
        and _lets(policies, "Ingress", pods[b], pods[a], port)
        and port not in OPEN_PORTS
    }
    assert allowed == calls
    # Clients are pods that no policy selects.
    assert _lets(policies, "Ingress", pods["gateway"], {"somebody": "else"}, 50050)


def _lets(
    policies: list[dict[str, Any]], direction: str, pod: dict[str, str], peer: dict[str, str], port: int
) -> bool:
    """Whether the policies allow the traffic of a pod; a pod that no policy selects allows all traffic."""
    chosen = [p for p in policies if direction in p["policyTypes"] and _selects(p["podSelector"], pod)]
    if not chosen:
        return True
    key = {"Ingress": "from", "Egress": "to"}[direction]
    for policy in chosen:
        for rule in policy.get(direction.lower()) or []:
            peers = rule.get(key)
            is_peer = peers is None or any(
                "namespaceSelector" not in p and _selects(p["podSelector"], peer) for p in peers
            )
            if is_peer and any(p["port"] == port for p in rule["ports"]):
                return True
    return False


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    for expression in selector.get("matchExpressions", []):
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
