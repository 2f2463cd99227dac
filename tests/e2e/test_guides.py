"""Every command and program of the guides, run as a new user would, in the order of the page.

A block after a comment that begins with ``not run:`` says what it needs, and is left out.
"""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from maskmesh.media.video_reader import read_frames
from maskmesh.nn.checkpoint import bundled_weights
from tests.mesh import Mesh

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PROJECT = GUIDES.parents[1]

# The address that the guides use.
ADDRESS = "localhost:50050"

_BLOCK = re.compile(r"(<!-- (?P<note>.*?) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


class Block(NamedTuple):
    """A block of code of a page."""

    kind: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are run."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if found["kind"] in ("sh", "python") and not (found["note"] or "").startswith("not run:"):
            yield Block(found["kind"], found["text"])


def pages() -> list[Path]:
    return sorted(path for path in GUIDES.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
async def test_the_page_works(page: Path, mesh: Mesh, clip: Path, tmp_path: Path) -> None:
    shutil.copyfile(clip, tmp_path / "clip.mp4")
    Image.fromarray(next(iter(read_frames(clip)))).save(tmp_path / "photo.jpg")
    micro = bundled_weights("micro")
    assert micro is not None
    for number, block in enumerate(blocks(page)):
        if block.kind == "python":
            await run(f"block{number}.py", block.text, tmp_path, mesh)
        else:
            await run(f"block{number}.sh", block.text, tmp_path, mesh)


async def run(name: str, text: str, folder: Path, mesh: Mesh) -> None:
    (folder / name).write_text(text.replace(ADDRESS, mesh.endpoint))
    command = ["bash", "-eu", "-o", "pipefail", name] if name.endswith(".sh") else [sys.executable, name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PATH": path, "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    )
    output, _ = await asyncio.wait_for(process.communicate(), 240)
    assert process.returncode == 0, f"{name}:\n{text}\n{output.decode()[-3000:]}"


def test_blocks_that_are_not_run_say_why() -> None:
    for page in pages():
        for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            assert found["kind"] in ("sh", "python", "text"), page
            note = found["note"] or ""
            assert not note or re.match(r"not run: .{20,}", note), f"{page.name}: {note}"


def test_links_of_the_docs_lead_somewhere() -> None:
    documents = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
