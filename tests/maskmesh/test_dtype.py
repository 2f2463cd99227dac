import pytest

from maskmesh.nn.dtype import Bfloat16, bfloat16_of_cpu, choose_dtype
from maskmesh.types import DTypeSetting


@pytest.mark.parametrize(
    ("setting", "bfloat16", "name"),
    [
        ("auto", Bfloat16.FAST, "bfloat16"),
        ("auto", Bfloat16.SLOW, "float32"),
        ("auto", Bfloat16.NONE, "float32"),
        ("float32", Bfloat16.FAST, "float32"),
        ("bfloat16", Bfloat16.NONE, "bfloat16"),
    ],
)
def test_choice(setting: DTypeSetting, bfloat16: Bfloat16, name: str) -> None:
    choice = choose_dtype(setting, device="cpu", bfloat16=bfloat16)
    assert choice.name == name
    assert ("cpu" in choice.reason) == (setting == "auto")


@pytest.mark.parametrize(
    ("capabilities", "vendor", "expected"),
    [
        ({"avx512_bf16", "amx_bf16"}, "GenuineIntel", Bfloat16.FAST),
        ({"avx512_bf16"}, "GenuineIntel", Bfloat16.SLOW),
        ({"avx512_bf16"}, "AuthenticAMD", Bfloat16.FAST),
        ({"bf16"}, "", Bfloat16.FAST),
        ({"avx512", "avx2"}, "GenuineIntel", Bfloat16.NONE),
    ],
)
def test_processors(capabilities: set[str], vendor: str, expected: Bfloat16) -> None:
    assert bfloat16_of_cpu(capabilities, vendor) is expected
