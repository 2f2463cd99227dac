"""The official checkpoints of the presets.

Sizes and digests are those of the published files (github.com/facebookresearch/sam2, README; huggingface.co
/facebook/sam3).
"""

from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

_SAM2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824"
_SAM3 = "https://huggingface.co/facebook/sam3/resolve/main"


@dataclass(frozen=True, slots=True)
class OfficialCheckpoint:
    """One published file."""

    preset: str
    url: str
    num_bytes: int
    sha256: str
    licence: str
    is_gated: bool = False
    """Whether its host asks for an account that has accepted the terms."""

    @property
    def file_name(self) -> str:
        """The name of the file."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def path(self) -> Path:
        """Where it is kept once it was downloaded."""
        return checkpoint_folder() / self.file_name


_ALL = (
    OfficialCheckpoint(
        "sam2.1-tiny",
        f"{_SAM2}/sam2.1_hiera_tiny.pt",
        156_008_466,
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        "Apache-2.0",
    ),
    OfficialCheckpoint(
        "sam2.1-small",
        f"{_SAM2}/sam2.1_hiera_small.pt",
        184_416_285,
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        "Apache-2.0",
    ),
    OfficialCheckpoint(
        "sam2.1-base-plus",
        f"{_SAM2}/sam2.1_hiera_base_plus.pt",
        323_606_802,
        "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
        "Apache-2.0",
    ),
    OfficialCheckpoint(
        "sam2.1-large",
        f"{_SAM2}/sam2.1_hiera_large.pt",
        898_083_611,
        "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
        "Apache-2.0",
    ),
    OfficialCheckpoint(
        "sam3",
        f"{_SAM3}/sam3.pt",
        3_450_062_241,
        "9999e2341ceef5e136daa386eecb55cb414446a00ac2b55eb2dfd2f7c3cf8c9e",
        "SAM License",
        is_gated=True,
    ),
)

OFFICIAL = {checkpoint.preset: checkpoint for checkpoint in _ALL}
"""The official checkpoints, by preset."""


def checkpoint_folder() -> Path:
    """The folder of downloaded checkpoints, in the user's cache folder by the convention of the platform."""
    return user_cache_path("maskmesh", appauthor=False) / "checkpoints"


def pulled_checkpoint(preset: str) -> Path | None:
    """The downloaded checkpoint of a preset, None if there is none."""
    official = OFFICIAL.get(preset)
    return official.path if official is not None and official.path.is_file() else None
