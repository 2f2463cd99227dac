"""What may import what, beyond what the import contracts in pyproject.toml say."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGES = ("maskmesh", "encoder_svc", "tracker_svc", "gateway")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            if "_pb2" not in path.name:
                yield path.relative_to(PROJECT)


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((PROJECT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers_of(part: str) -> set[str]:
    return {str(p) for p in modules() if any(part in name for name in imports(p))}


def test_messages_stay_at_the_edges() -> None:
    """Domain code sees values; whoever speaks gRPC turns them into messages and back."""
    allowed = {
        *(f"{s}/service.py" for s in ("encoder_svc", "tracker_svc", "gateway")),
        *(
            f"maskmesh/{m}.py"
            for m in ("wire", "embedding_wire", "session_wire", "chunks", "errors", "serving", "mesh")
        ),
        *(f"maskmesh/{m}.py" for m in ("client", "video_session", "live_client", "unanswered")),
        # Between the client and the services the gateway passes messages on.
        *(f"gateway/{m}.py" for m in ("backends", "prompting", "upload", "pipeline", "live", "inbox")),
        *(f"gateway/{m}.py" for m in ("track_call", "frame_trace", "warm_up")),
        # The tracker's end of a propagation, and the fetching of embeddings, speak in streams.
        "tracker_svc/propagation.py",
        "tracker_svc/fetching.py",
        # What a session is goes from tracker to tracker, and into stores, as messages.
        *(f"tracker_svc/{m}.py" for m in ("prompting", "snapshot", "keeper", "ownership")),
        *(f"gateway/{m}.py" for m in ("encoders", "trackers", "image", "shared_frames")),
        "encoder_svc/shared_cache.py",
    }
    assert importers_of("_pb2") <= allowed


def test_one_module_knows_the_tracing_sdk() -> None:
    assert importers_of("opentelemetry.sdk") == {"maskmesh/exporting.py"}
    assert importers_of("opentelemetry.exporter") == {"maskmesh/exporting.py"}


def test_the_environment_is_read_in_one_place() -> None:
    readers = {
        str(p)
        for p in modules()
        if "os.environ" in (PROJECT / p).read_text() or "getenv" in (PROJECT / p).read_text()
    }
    # The launcher passes its environment on; it reads nothing from it.
    assert readers <= {"maskmesh/config.py", "maskmesh/mesh.py"}


def test_only_commands_print() -> None:
    printers = set()
    for path in modules():
        for node in ast.walk(ast.parse((PROJECT / path).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                printers.add(str(path))
    assert not printers


def test_models_set_up_nothing() -> None:
    for path in modules():
        if path.parts[1:2] == ("model",):
            own = path.parts[0] + ".model"
            allowed = ("torch", "safetensors", "maskmesh.amx", own, "__future__")
            for name in imports(path):
                is_standard = name.split(".")[0] in sys.stdlib_module_names
                assert is_standard or name.startswith(allowed), f"{path} imports {name}"


@pytest.mark.parametrize("module", ["maskmesh", "maskmesh.cli", "gateway.service"])
def test_no_torch_without_a_model(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


def test_files_stay_small() -> None:
    long = {str(p): n for p in modules() if (n := len((PROJECT / p).read_text().splitlines())) > 400}
    assert not long
