"""A few mutations of each kind; ``python -m tests.fuzz_media`` reads many."""

from pathlib import Path

import pytest

from tests.fuzz_media import KINDS, make_input

# Numbers of inputs that were found to fail, by kind.
FOUND: dict[str, tuple[int, ...]] = {"containers": (6766,), "masks": (226, 260, 301)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_mutations_are_read_or_refused(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    for number in (*FOUND.get(name, ()), *range(60 if name == "containers" else 200)):
        path = tmp_path / kind.name
        path.write_bytes(make_input(kind, number))
        kind.read(path)
