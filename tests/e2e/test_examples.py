"""The examples for other languages and the one-liner of the README, against a live mesh."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import Parse
from PIL import Image

from maskmesh.media.video_reader import read_frames
from maskmesh.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.mesh import Mesh

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "tools" / "sample" / "clip.mp4"
FRAMES = 90

_GOPATH = Path("/usr/share/gocode")
_HAS_GO = all(map(shutil.which, ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc"))) and _GOPATH.exists()


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_node_example_tracks_a_video_and_its_trace_is_found(mesh: Mesh, tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json", "track.mjs"):
        shutil.copy(PROJECT / "examples" / "node" / name, tmp_path)
    subprocess.run(["npm", "ci", "--silent", "--no-audit"], cwd=tmp_path, check=True, timeout=120)
    process = await asyncio.create_subprocess_exec(
        *("node", "track.mjs", mesh.endpoint, str(SAMPLE), "110,262"),
        cwd=tmp_path,
        env={**os.environ, "MASKMESH_PROTOS": str(PROJECT / "protos")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    frames = [json.loads(line) for line in output.decode().splitlines()]
    assert [frame["frame_index"] for frame in frames] == list(range(FRAMES))
    assert all(frame["objects"][0]["counts"] for frame in frames)
    found = re.search(r"trace ([0-9a-f]{32})", said.decode())
    assert found is not None
    trace_id = found[1]
    await mesh.complete_traces([frames[-1]["trace_id"]])
    spans = {s.name for t in mesh.all_traces() if t.trace_id == trace_id for s in t.spans.values()}
    assert spans >= {
        "maskmesh.v1.SegmentationService/AddPrompt",
        "maskmesh.v1.SegmentationService/PropagateVideo",
        "mask_decoder",
    }


@pytest.mark.skipif(not _HAS_GO, reason="Go is not installed")
def test_go_example_is_built(tmp_path: Path) -> None:
    """Built with Debian's packages, whose gRPC has no ``NewClient`` yet and cannot run newer stubs."""
    package = tmp_path / "src" / "example.com" / "maskmesh"
    package.mkdir(parents=True)
    source = (PROJECT / "examples" / "go" / "main.go").read_text()
    source = source.replace("grpc.NewClient(", "grpc.Dial(")
    source = source.replace("grpc.WithTransportCredentials(insecure.NewCredentials())", "grpc.WithInsecure()")
    source = source.replace('\t"google.golang.org/grpc/credentials/insecure"\n', "")
    (package / "main.go").write_text(source)
    root = PROJECT / "protos"
    protos = sorted(path.relative_to(root) for path in (root / "maskmesh" / "v1").glob("*.proto"))
    gen = package / "gen"
    gen.mkdir()
    options = [
        option
        for kind in ("go", "go-grpc")
        for option in (
            f"--{kind}_out={gen}",
            f"--{kind}_opt=paths=source_relative",
            *(f"--{kind}_opt=M{proto}=example.com/maskmesh/gen/maskmesh/v1" for proto in protos),
        )
    ]
    subprocess.run(["protoc", "-I.", *options, *map(str, protos)], cwd=root, check=True)
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": f"{tmp_path}:{_GOPATH}",
        "GOCACHE": str(tmp_path / "cache"),
    }
    subprocess.run(["go", "build", "-o", "track", "."], cwd=package, env=environment, check=True)


async def test_the_one_liner_of_the_readme_segments_an_image(mesh: Mesh, tmp_path: Path) -> None:
    """The part before grpcurl; the part after it is the address and the method."""
    (line,) = re.findall(
        r"```sh\n(printf .*?) \|\n  grpcurl (.*?)\n```", (PROJECT / "README.md").read_text(), re.DOTALL
    )
    pixels = next(iter(read_frames(SAMPLE)))
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    made = subprocess.run(["bash", "-c", line[0]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert line[1] == "-plaintext -d @ localhost:50050 maskmesh.v1.SegmentationService/SegmentImage"
    request = Parse(made.stdout, segmentation_pb2.SegmentImageRequest())
    async with grpc.aio.insecure_channel(mesh.endpoint) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        response = await stub.SegmentImage(request)
    assert (response.width, response.height) == (pixels.shape[1], pixels.shape[0])
    assert response.masks[0].obj_id == 1
