"""The collector and the store of the manifests, run by a real Jaeger on loopback."""

import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.golden import DATA

FOLDER = DATA.parent / "jaeger"
TRACES = Path(__file__).parents[1] / "k8s" / "base" / "traces"

missing: str = "" if (FOLDER / "jaeger.xz").exists() else f"there is no Jaeger in {FOLDER}"
"""Why tests that need Jaeger are skipped; empty if it is there."""


def unpack(folder: Path) -> Path:
    """Unpack Jaeger and its user interface; returns the executable."""
    executable = folder / "jaeger"
    with lzma.open(FOLDER / "jaeger.xz") as packed, executable.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 2**20)
    executable.chmod(0o755)
    (folder / "ui").mkdir()
    with tarfile.open(FOLDER / "ui.tar.xz") as archive:
        archive.extractall(folder / "ui", filter="data")
    return executable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class JaegerProcess:
    """One role of the manifests: its configuration with ports of this machine's loopback.

    ``ports`` are by the port in the manifest.
    """

    def __init__(
        self,
        executable: Path,
        config: Path,
        folder: Path,
        environment: Mapping[str, str],
        added: Sequence[Path] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = config.read_text()
        self.ports = {int(port): free_port() for port in re.findall(r"0\.0\.0\.0:(\d+)", text)}
        self.ports[8888] = free_port()
        text = re.sub(r"0\.0\.0\.0:(\d+)", lambda m: f"127.0.0.1:{self.ports[int(m[1])]}", text)
        made = yaml.safe_load(text)
        exporter = made["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
        exporter.update(host="127.0.0.1", port=self.ports[8888])
        if (query := made["extensions"].get("jaeger_query")) is not None:
            query["ui"] = {
                "config_file": str(TRACES / "jaeger-ui.json"),
                "assets_path": str(executable.parent / "ui"),
            }
        self._arguments = [str(executable), f"--config={folder / 'config.yaml'}"]
        (folder / "config.yaml").write_text(yaml.safe_dump(made))
        self._arguments += [f"--config={path}" for path in added]
        self._environment = {**os.environ, **environment}
        self._log = folder / "log"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it is healthy."""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._arguments, env=self._environment, cwd=self._folder, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.ports[13133]}/status", timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self._log.read_text()[-3000:]
                assert time.monotonic() < deadline, self._log.read_text()[-3000:]
                time.sleep(0.05)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    def api(self, path: str, **query: Any) -> Any:
        """A call of Jaeger's HTTP API, as the user interface makes it; returns ``data``."""
        return json.loads(get(self.ports[16686], f"api/{path}", **query)).get("data") or []

    def metrics(self, port: int) -> str:
        """The Prometheus metrics at one of its ports."""
        return get(self.ports[port], "metrics")


def get(port: int, path: str, **query: Any) -> str:
    """The answer of an HTTP server on loopback; values that are dicts are sent as JSON."""
    text = urllib.parse.urlencode({k: json.dumps(v) if isinstance(v, dict) else v for k, v in query.items()})
    url = f"http://127.0.0.1:{port}/{path}" + (f"?{text}" if text else "")
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())
