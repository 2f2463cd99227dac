"""Generate the Python stubs from the protos in this folder.

    python protos/generate.py [OUT]

OUT is the folder that contains the ``maskmesh`` package, by default the root of the project.  The proto
package equals the Python import path, so the generated files need no changes.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent


def generate(out: Path) -> None:
    """Write ``*_pb2.py``, ``*_pb2.pyi`` and ``*_pb2_grpc.py`` under ``out``."""
    sources = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.rglob("*.proto"))
    include = files("grpc_tools") / "_proto"
    arguments = [
        "protoc",
        f"-I{PROTOS}",
        f"-I{include}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *sources,
    ]
    if protoc.main(arguments):
        raise SystemExit("protoc failed")
    for package in {Path(s).parent for s in sources}:
        for folder in (package, *package.parents):
            init = out / folder / "__init__.py"
            if folder.name and not init.exists():
                init.parent.mkdir(parents=True, exist_ok=True)
                init.touch()


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTOS.parent)
