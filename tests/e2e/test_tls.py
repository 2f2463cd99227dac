"""TLS between all services: mutual authentication, and certificate rotation during calls."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from cryptography import x509

from maskmesh import AsyncClient, Client, Point, Prompt, Tls, Unavailable
from maskmesh.cli.mesh.local_mesh import MeshOptions
from maskmesh.internal.v1 import encoder_pb2, encoder_pb2_grpc
from maskmesh.reloading import CHECK_SECONDS
from maskmesh.rpc.channel import open_channel
from maskmesh.rpc.tls import PemFiles
from tests.mesh import Mesh, running_mesh

PICTURE = np.zeros((48, 64, 3), np.uint8)
PROMPT = {1: Prompt(points=(Point(20, 20),))}

# No service address has this name, because certificates do not contain the addresses of pods.
NAME = "mesh.example"


def issue(folder: Path, authority: trustme.CA) -> Tls:
    """Write the certificate of an authority, and a certificate that it issued with its key."""
    made = authority.issue_cert(NAME)
    made.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return Tls(folder / "ca.pem", folder / "cert.pem", folder / "key.pem", NAME)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
async def secured(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> AsyncIterator[tuple[Mesh, Tls]]:
    tls = issue(tmp_path_factory.mktemp("certificates"), authority)
    # Without shared memory the tracker fetches embeddings by gRPC, so the tracker calls the encoder too.
    flags = {"tracker": ["--shared-memory-dir", ""]}
    options = MeshOptions(tls=tls, flags=flags)
    async with running_mesh(tmp_path_factory.mktemp("traces"), options) as mesh:
        yield mesh, tls


def caller(tls: Tls) -> Tls:
    """The settings of a client, which has no certificate."""
    return replace(tls, cert=None, key=None)


async def test_all_calls_work_with_tls(secured: tuple[Mesh, Tls], clip: Path) -> None:
    mesh, tls = secured
    async with AsyncClient(mesh.endpoint, timeout=60, tls=caller(tls)) as client:
        found = await client.segment_image(PICTURE, PROMPT)
        assert (found.width, found.height) == (64, 48)
        async with client.session() as session:
            await session.append_video(clip)
            await session.add_prompt(0, 1, points=[(320, 180)])
            assert len([frame async for frame in session.propagate(max_frames=3)]) == 3
        async with client.stream() as live:
            await live.send(PICTURE)
            await live.add_prompt(1, points=[(20, 20)])
            await live.send(PICTURE)
            await live.finish()
            assert [result.sequence async for result in live] == [0, 1]


def test_blocking_client_supports_tls(secured: tuple[Mesh, Tls]) -> None:
    mesh, tls = secured
    with Client(mesh.endpoint, timeout=30, tls=caller(tls)) as client:
        assert client.segment_image(PICTURE, PROMPT).width == 64


async def test_clients_with_wrong_tls_settings_are_refused(secured: tuple[Mesh, Tls], tmp_path: Path) -> None:
    mesh, tls = secured
    stranger = issue(tmp_path, trustme.CA())
    for wrong in (None, caller(stranger), replace(caller(tls), server_name="elsewhere.example")):
        async with AsyncClient(mesh.endpoint, timeout=30, tls=wrong) as client:
            with pytest.raises(Unavailable):
                await client.create_session()


@pytest.mark.parametrize("service", ["encoder", "tracker"])
async def test_services_require_a_client_certificate(
    secured: tuple[Mesh, Tls], tmp_path: Path, service: str
) -> None:
    mesh, tls = secured
    stranger = issue(tmp_path, trustme.CA())
    for wrong in (caller(tls), replace(stranger, ca=tls.ca)):
        async with open_channel(mesh.address(service), max_message_bytes=2**20, tls=wrong) as channel:
            stub = encoder_pb2_grpc.EncoderServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                await stub.GetModel(encoder_pb2.GetModelRequest(), timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def shown(mesh: Mesh, service: str, tls: Tls) -> int:
    """The serial number of the current certificate of a service."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(str(tls.cert), tls.key)
    context.set_alpn_protocols(["h2"])
    host, port = mesh.address(service).split(":")
    with (
        contextlib.closing(socket.create_connection((host, int(port)), timeout=10)) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as encrypted,
    ):
        certificate = encrypted.getpeercert(binary_form=True)
    assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


async def test_certificates_rotate_during_a_propagation(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, clip: Path
) -> None:
    tls = issue(tmp_path, trustme.CA())
    flags = {"tracker": ["--shared-memory-dir", ""]}
    async with running_mesh(
        tmp_path_factory.mktemp("traces"), MeshOptions(tls=tls, flags=flags)
    ) as mesh, AsyncClient(mesh.endpoint, timeout=60, tls=caller(tls)) as client:  # fmt: skip
        async with client.session() as session:
            await session.append_video(clip)
            await session.add_prompt(0, 1, points=[(320, 180)])
            frames = []
            async for frame in session.propagate():
                frames.append(frame.frame_index)
                if len(frames) == 3:
                    # The authority changes too: services refuse certificates of the previous authority.
                    before = shown(mesh, "encoder", tls)
                    issue(tmp_path, trustme.CA())
                    await asyncio.sleep(CHECK_SECONDS + 0.1)
            assert frames == list(range(60))
        for service in ("encoder", "tracker", "gateway"):
            assert shown(mesh, service, tls) != before
        # The next calls of the client, the gateway and the tracker use the new files.
        assert (await client.segment_image(PICTURE, PROMPT)).width == 64
        mesh.local.kill("encoder")
        await mesh.local.restart("encoder")
        assert (await client.segment_image(PICTURE + 1, PROMPT)).width == 64


def test_invalid_certificate_files_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskmesh.reloading.CHECK_SECONDS", 0.01)
    tls = issue(tmp_path, trustme.CA())
    files = PemFiles(tls.files)
    before = files.contents
    assert tls.cert is not None
    good = tls.cert.read_bytes()
    (tmp_path / "other").mkdir()
    other = issue(tmp_path / "other", trustme.CA())
    assert other.cert is not None
    for wrong in (b"", b"nothing", other.cert.read_bytes()):
        tls.cert.write_bytes(wrong)
        time.sleep(0.02)
        assert not files.have_changed()
        assert files.contents == before
    tls.cert.unlink()
    time.sleep(CHECK_SECONDS)
    assert not files.have_changed()
    tls.cert.write_bytes(good + b"\n")
    time.sleep(CHECK_SECONDS)
    assert files.have_changed()
    assert files.contents[1] == good + b"\n"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--tls-cert", "cert.pem"], "tls_cert and tls_key must be set together"),
        (["--tls-client-ca", "ca.pem"], "tls_client_ca needs tls_cert"),
        (
            ["--tls-cert", "ca.pem", "--tls-key", "key.pem"],
            "certificates cannot be used: ca.pem, key.pem: ",
        ),
        (["--tls-cert", "cert.pem", "--tls-key", "nowhere.pem"], "nowhere.pem"),
        (["--tls-ca", "key.pem"], "key.pem"),
    ],
)
def test_invalid_tls_settings_are_reported_at_start(tmp_path: Path, flags: list[str], says: str) -> None:
    issue(tmp_path, trustme.CA())
    command = [sys.executable, "-m", "gateway", "--port", "0", *flags]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert says in ended.stderr.splitlines()[-1] or says in ended.stderr
    assert "Traceback" not in ended.stderr
