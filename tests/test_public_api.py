"""The names that users import."""

import ast
import inspect
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


def test_the_readmes_python_is_python() -> None:
    blocks = EXAMPLE.read_text().split("```python\n")[1:]
    assert blocks
    for block in blocks:
        ast.parse(block.split("```", 1)[0])
