"""The public names of the maskmesh package."""

import ast
import inspect
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import maskmesh
from maskmesh.errors import all_errors

EXAMPLE = Path(__file__).parent.parent / "README.md"


def test_all_names_exist_and_are_sorted() -> None:
    assert maskmesh.__all__ == sorted(maskmesh.__all__)
    for name in maskmesh.__all__:
        assert hasattr(maskmesh, name)


def test_every_error_is_public() -> None:
    assert {c.__name__ for c in all_errors()} <= set(maskmesh.__all__)


def test_every_public_method_is_documented() -> None:
    for client in (maskmesh.AsyncClient, maskmesh.VideoSession):
        for name, member in inspect.getmembers(client, inspect.isfunction):
            if not name.startswith("_"):
                assert member.__doc__, f"{client.__name__}.{name}"


def test_readme_python_blocks_parse() -> None:
    blocks = EXAMPLE.read_text().split("```python\n")[1:]
    assert blocks
    for block in blocks:
        ast.parse(block.split("```", 1)[0])


# Packages of the extras.
_EXTRAS = {
    "aiolimiter",
    "av",
    "cachetools",
    "click",
    "matplotlib",
    "opentelemetry.exporter",
    "opentelemetry.sdk",
    "prometheus_client",
    "pydantic",
    "redis",
    "rich",
    "safetensors",
    "scipy",
    "torch",
}


def test_the_client_imports_no_package_of_an_extra() -> None:
    code = "import sys, maskmesh.client.sync_client; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not _EXTRAS & set(result.stdout.split())


def test_a_plain_installation_has_at_most_eight_direct_dependencies() -> None:
    plain = [line for line in metadata.requires("maskmesh") or [] if "extra ==" not in line]
    assert 0 < len(plain) <= 8
