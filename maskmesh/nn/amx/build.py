"""Compiles the kernel, :file:`attention.cpp`, into a shared library.

The package itself has no compiled part, so a client installs without a compiler.  A model service compiles
the kernel when it first starts on a processor with matrix units and keeps the library in the user's cache
folder.  ``python -m maskmesh.nn.amx`` compiles it in advance, next to its source, for container images and
read-only installations.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "attention.cpp"
INSTALLED = SOURCE.with_name("_attention.so")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC")


class BuildError(Exception):
    """The kernel cannot be compiled; the message is the reason."""


def find_or_build() -> Path:
    """The library of this version of the source, compiled if it does not exist.  Raises BuildError."""
    if INSTALLED.exists() and INSTALLED.stat().st_mtime >= SOURCE.stat().st_mtime:
        return INSTALLED
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    try:
        home = Path.home()
    except RuntimeError as error:  # a user without a home folder, as in a container
        raise BuildError(str(error)) from error
    cached = home / ".cache" / "maskmesh" / f"attention-{digest}.so"
    if not cached.exists():
        build(cached)
    return cached


def build(target: Path) -> None:
    """Compile the kernel to ``target``, which is replaced atomically.  Raises BuildError."""
    compiler = next((path for name in COMPILERS if (path := shutil.which(name))), None)
    if compiler is None:
        raise BuildError("there is no C++ compiler")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            library = Path(folder) / target.name
            command = [compiler, *FLAGS, "-o", str(library), str(SOURCE)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            library.replace(target)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{compiler} failed: {error.stderr.strip()[-500:]}") from error
    except OSError as error:
        raise BuildError(str(error)) from error
