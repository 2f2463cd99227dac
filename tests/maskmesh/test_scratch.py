import signal
import subprocess
import sys
import time
from pathlib import Path

from maskmesh.storage.scratch import ScratchFolder


def test_close_deletes_the_folder(tmp_path: Path) -> None:
    first, second = (ScratchFolder("service-", tmp_path / "data") for _ in range(2))
    (first.path / "something").write_text("text")
    assert first.path != second.path
    first.close()
    assert list((tmp_path / "data").iterdir()) == [second.path]
    second.close()


def test_folder_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    code = (
        "import sys, time; from maskmesh.storage.scratch import ScratchFolder; from pathlib import Path;"
        "f = ScratchFolder('service-', Path(sys.argv[1])); (f.path / 'data').write_text('x');"
        "print(f.path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        other = tmp_path / "other-kept"
        other.mkdir()
        living = ScratchFolder("service-", tmp_path)
        assert left.exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 5
    while left.exists() and time.monotonic() < deadline:
        ScratchFolder("service-", tmp_path).close()
    assert not left.exists()
    assert other.exists()
    assert living.path.exists()
    living.close()
