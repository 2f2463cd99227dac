import pytest

from maskmesh.nn.dtype import choose_dtype
from maskmesh.types import DTypeSetting


@pytest.mark.parametrize(
    ("setting", "native", "name"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("float32", True, "float32"),
        ("bfloat16", False, "bfloat16"),
    ],
)
def test_choice(setting: DTypeSetting, name: str, *, native: bool) -> None:
    choice = choose_dtype(setting, device="cpu", has_bfloat16=native)
    assert choice.name == name
    assert ("cpu" in choice.reason) == (setting == "auto")
