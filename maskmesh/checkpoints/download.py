"""Downloads of large files: resumed where they broke off, and checked against their digest."""

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

try:
    import fcntl
except ImportError:  # Windows, where downloads are not locked
    fcntl = None  # type: ignore[assignment]

# A connection that breaks loses less than this.
CHUNK_BYTES = 2**16

# Without a byte for this long, the connection is given up; after so many attempts without progress the
# download is.
TIMEOUT_SECONDS = 30.0
MAX_ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.5

# Answers that may be others later.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)

Progress = Callable[[int], None]
"""Called with the number of bytes that are there."""


class DownloadError(OSError):
    """A file could not be downloaded, or is not the expected one."""


def download(
    url: str,
    path: Path,
    *,
    num_bytes: int,
    sha256: str,
    token: str = "",
    progress: Progress = lambda done: None,
) -> None:
    """Download a file to ``path``, which appears only when it is complete and has the right digest.

    What an earlier attempt has downloaded is continued (``NAME.part``).  ``token`` is sent as a bearer token.
    Raises DownloadError, and OSError if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with _locked(part) as descriptor:
        if part.stat().st_size > num_bytes:
            os.truncate(descriptor, 0)
        _check_room(path.parent, num_bytes - part.stat().st_size)
        _fetch(url, part, num_bytes, token, progress)
        found = file_sha256(part)
        if found != sha256:
            part.unlink()
            raise DownloadError(
                f"{url} is not the expected file: its SHA-256 is {found}, not {sha256}; it was deleted"
            )
        part.replace(path)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.  Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[int]:
    """The open file of a download, which no other process continues meanwhile."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DownloadError(f"another process is downloading {part.name}") from error
        yield descriptor
    finally:
        os.close(descriptor)


def _check_room(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise DownloadError(f"{folder} has {free / 1e9:.1f} GB of room, {num_bytes / 1e9:.1f} GB are missing")


def _fetch(url: str, part: Path, num_bytes: int, token: str, progress: Progress) -> None:
    """Download until the file has its size; an attempt that got further does not count."""
    attempts, furthest = 0, part.stat().st_size
    while (size := part.stat().st_size) < num_bytes:
        progress(size)
        try:
            _continue(url, part, num_bytes, token, progress)
            reason = "the server ended the file early"
        except (requests.RequestException, _Temporary) as error:
            reason = _describe(error)
        # A server that ignores ranges begins anew each time, and may break at any place.
        attempts = 0 if part.stat().st_size > furthest else attempts + 1
        furthest = max(furthest, part.stat().st_size)
        if part.stat().st_size < num_bytes:
            if attempts >= MAX_ATTEMPTS:
                raise DownloadError(
                    f"{url}: {reason}; {part.stat().st_size / 1e6:.0f} of {num_bytes / 1e6:.0f} MB are kept, "
                    "and the same command continues"
                )
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempts)
    progress(num_bytes)


class _Temporary(Exception):
    """The server has answered that it may have the file later."""


def _continue(url: str, part: Path, num_bytes: int, token: str, progress: Progress) -> None:
    """One attempt, from the end of what is there.  Raises DownloadError, RequestException, _Temporary."""
    start = part.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        _check_answer(url, response)
        is_rest = response.status_code == 206
        if is_rest and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise DownloadError(f"{url}: the server sends another part than it was asked for")
        total = response.headers.get("Content-Length")
        offset = start if is_rest else 0
        # A body that is compressed on the way has another length.
        is_plain = "Content-Encoding" not in response.headers
        if total is not None and is_plain and offset + int(total) != num_bytes:
            raise DownloadError(f"{url} has {offset + int(total)} bytes, not {num_bytes}: it is another file")
        with part.open("r+b") as file:
            # A server that ignores the range sends the file from its beginning.
            file.seek(offset)
            file.truncate()
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                progress(file.tell())


def _check_answer(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in (401, 403):
        raise DownloadError(
            f"{url}: the server refuses access ({status}); accept its terms with an account there, and give "
            "--token or HF_TOKEN"
        )
    if status in _TEMPORARY:
        raise _Temporary(f"the server answers {status} {response.reason}")
    if status not in (200, 206):
        raise DownloadError(f"{url}: the server answers {status} {response.reason}")


def _describe(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "the server has sent nothing for half a minute"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "the connection broke, or cannot be made"
    return str(error)
