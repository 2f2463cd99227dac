"""Which type of numbers a model computes in.  Without torch: the services say what their device can do."""

from typing import Literal, NamedTuple, TypeAlias

DTypeName: TypeAlias = Literal["float32", "bfloat16"]
DTypeSetting: TypeAlias = Literal["auto", "float32", "bfloat16"]


class DTypeChoice(NamedTuple):
    """A type, and why it was chosen."""

    name: DTypeName
    reason: str


def choose_dtype(setting: DTypeSetting, *, device: str, has_bfloat16: bool) -> DTypeChoice:
    """The type for a device that computes in bfloat16 natively, or does not.

    ``auto`` is bfloat16 where it is native: elsewhere it is converted back and forth, and slower.
    """
    if setting != "auto":
        return DTypeChoice(setting, "as set")
    if has_bfloat16:
        return DTypeChoice("bfloat16", f"native on {device}")
    return DTypeChoice("float32", f"bfloat16 is not native on {device}")
