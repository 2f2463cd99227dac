"""Downloads from a real server that breaks off, refuses, lies about ranges, or has another file."""

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from maskmesh.checkpoints import catalogue, download
from maskmesh.checkpoints.catalogue import OfficialCheckpoint
from maskmesh.checkpoints.download import DownloadError
from maskmesh.cli.main import main

CONTENT = os.urandom(3 * 2**20 + 17)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT, at most ``cut`` bytes for each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.cut = len(CONTENT)
        self.cuts: list[int] = []
        """The same for the next requests, one after another."""
        self.takes_ranges = True
        self.statuses: list[int] = []
        """Answers of the next requests, instead of the file."""
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.pt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(dict(self.headers))
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        start = 0
        if (asked := self.headers.get("Range")) and self.server.takes_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else self.server.cut
        self.wfile.write(CONTENT[start : start + cut])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.001)
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


def fetch(server: Server, path: Path, **options: object) -> list[int]:
    progress: list[int] = []
    download.download(
        server.url,
        path,
        num_bytes=len(CONTENT),
        sha256=DIGEST,
        progress=progress.append,
        **options,  # type: ignore[arg-type]
    )
    return progress


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    progress = fetch(server, tmp_path / "new" / "model.pt")
    assert (tmp_path / "new" / "model.pt").read_bytes() == CONTENT
    assert progress[-1] == len(CONTENT)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model.pt"]


def test_a_server_that_breaks_off_is_asked_for_the_rest(server: Server, tmp_path: Path) -> None:
    server.cut = 1_000_000
    fetch(server, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == CONTENT
    starts = [int(r.get("Range", "bytes=0-")[6:-1]) for r in server.requests]
    assert starts[0] == 0
    assert starts[1] > 900_000
    assert all(0 < later - earlier <= 1_000_000 for earlier, later in itertools.pairwise(starts))


def test_the_next_command_continues(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    server.cut = 1_000_000
    monkeypatch.setattr(download, "MAX_ATTEMPTS", 1)
    server.statuses = []
    original = download._continue
    calls = 0

    def break_after_one(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            server.statuses = [503]
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "_continue", break_after_one)
    with pytest.raises(DownloadError, match="1 of 3 MB are kept, and the same command continues"):
        fetch(server, path)
    assert not path.exists()
    monkeypatch.setattr(download, "_continue", original)
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert sum("Range" not in r for r in server.requests) == 1


def test_a_server_without_ranges_sends_the_file_again(server: Server, tmp_path: Path) -> None:
    server.takes_ranges = False
    (tmp_path / "model.pt.part").write_bytes(CONTENT[:1000])
    fetch(server, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == CONTENT


def test_a_server_without_ranges_that_breaks_anywhere_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.takes_ranges = False
    monkeypatch.setattr(download, "MAX_ATTEMPTS", 4)
    # It never comes further than the first time.
    server.cuts = [len(CONTENT) // 2, len(CONTENT) // 4] * 20
    with pytest.raises(download.DownloadError, match="are kept"):
        fetch(server, tmp_path / "file")


def test_damage_in_what_is_there_is_found(server: Server, tmp_path: Path) -> None:
    (tmp_path / "model.pt.part").write_bytes(b"damaged" * 1000)
    with pytest.raises(DownloadError, match="is not the expected file: its SHA-256 is"):
        fetch(server, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    fetch(server, tmp_path / "model.pt")


def test_a_file_of_another_size_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="it is another file"):
        download.download(server.url, tmp_path / "x.pt", num_bytes=5, sha256=DIGEST)


def test_an_overloaded_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    fetch(server, tmp_path / "model.pt")
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "said"), [(404, "404 Not Found"), (403, "HF_TOKEN"), (401, "--token")])
def test_a_server_that_refuses(server: Server, tmp_path: Path, status: int, said: str) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadError, match=said):
        fetch(server, tmp_path / "model.pt")
    assert len(server.requests) == 1


def test_a_token_is_sent(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path / "model.pt", token="secret")
    assert server.requests[0]["Authorization"] == "Bearer secret"


def test_two_downloads_of_one_file_do_not_mix(server: Server, tmp_path: Path) -> None:
    with (
        download._locked(tmp_path / "model.pt.part"),
        pytest.raises(DownloadError, match="another process"),
    ):
        fetch(server, tmp_path / "model.pt")


def test_an_unreachable_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_SECONDS", 0.0)
    with pytest.raises(DownloadError, match="cannot be made"):
        download.download("http://127.0.0.1:9/x", tmp_path / "x", num_bytes=5, sha256=DIGEST)


def test_pull_makes_a_checkpoint_that_the_model_finds(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fake = OfficialCheckpoint("sam2.1-tiny", server.url, len(CONTENT), DIGEST, "Apache-2.0")
    monkeypatch.setitem(catalogue.OFFICIAL, "sam2.1-tiny", fake)
    assert catalogue.pulled_checkpoint("sam2.1-tiny") is None
    result = CliRunner().invoke(main, ["models", "pull", "sam2.1-tiny"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert catalogue.pulled_checkpoint("sam2.1-tiny") == tmp_path / "maskmesh" / "checkpoints" / "model.pt"
    listed = CliRunner().invoke(main, ["models", "list", "--json"], catch_exceptions=False)
    assert '"pulled": true' in listed.output
    CliRunner().invoke(main, ["models", "pull", "sam2.1-tiny"], catch_exceptions=False)
    assert len(server.requests) == 1


def test_terms_of_a_gated_model_are_named() -> None:
    result = CliRunner().invoke(main, ["models", "pull", "sam3"])
    assert result.exit_code == 2
    assert "SAM License" in result.output
