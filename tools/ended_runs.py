"""Ends runs of ``maskmesh segment`` at random moments, and checks what is left.

    python -m tools.ended_runs --runs 20

A clip of 200 frames is tracked by a mesh that the command starts.  Each run is ended by a signal (SIGINT,
SIGTERM or SIGHUP), by ``kill -9`` of the command, or by ``kill -9`` of one of its services.  After each, the
file of masks must hold every frame that the bar had counted, the overlay must be a video that can be decoded,
and no process, port, folder or shared memory may be left.
"""

import argparse
import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from maskmesh.media.video_index import index_video
from tools.make_sample import make_clip

FRAMES = 200
WAYS = ("SIGINT", "SIGTERM", "SIGHUP", "kill command", "kill encoder", "kill tracker", "kill gateway")

# How long services may outlive a killed command, also on a busy machine.
GRACE_SECONDS = 10.0

_MEMORY = Path("/dev/shm")
_MODULES = {"encoder": "encoder_svc", "tracker": "tracker_svc", "gateway": "gateway"}


class Run:
    """One run of the command in a terminal of its own, with a folder for its temporary files."""

    def __init__(self, clip: Path, folder: Path) -> None:
        self.folder = folder
        self.masks, self.overlay = folder / "masks.json", folder / "overlay.mp4"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        terminal, inner = pty.openpty()
        self._terminal = terminal
        # The point is on the first object of the sample clip.
        arguments = [str(clip), "--point", "192,150", "--masks", str(self.masks), "-o", str(self.overlay)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "maskmesh.cli", "segment", *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TMPDIR": str(self.temporary), "COLUMNS": "120", "MASKMESH_TRACE_DIR": ""},
            start_new_session=True,
        )
        os.close(inner)
        self.text = ""

    @property
    def counted(self) -> int:
        """The frames that the bar has counted."""
        return max((int(n) for n in re.findall(rf"(\d+)/{FRAMES}\b", self.text)), default=0)

    def read(self, seconds: float) -> bool:
        """Read the terminal for some time; returns False at the end of the output."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            if not select.select([self._terminal], [], [], remaining)[0]:
                return True
            try:
                self.text += os.read(self._terminal, 2**16).decode(errors="replace")
            except OSError:  # the other end is closed
                return False
        return True

    def services(self) -> dict[str, int]:
        """Process ids of its services by name."""
        found = {}
        for pid, words in _processes():
            for name, module in _MODULES.items():
                if module in words and str(self.temporary) in " ".join(words):
                    found[name] = pid
        return found


def _processes() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_text().split("\0")
            except OSError:
                continue  # it has ended meanwhile


def end_run(clip: Path, folder: Path, way: str, frames: int) -> list[str]:
    """End one run in some way when so many frames are counted; returns what is wrong."""
    run = Run(clip, folder)
    while run.counted < frames and run.read(0.02):
        pass
    if way.startswith("SIG"):
        run.process.send_signal(getattr(signal, way))
        run.process.send_signal(getattr(signal, way))
    elif way == "kill command":
        run.process.kill()
    else:
        os.kill(run.services()[way.split()[1]], signal.SIGKILL)
    before = run.counted
    while run.read(0.2):
        pass
    status = run.process.wait()
    deadline = time.monotonic() + (GRACE_SECONDS if way == "kill command" else 0.0)
    while time.monotonic() < deadline and (run.services() or any(run.temporary.iterdir())):
        time.sleep(0.05)
    counted = run.counted
    print(f"{way:13} at frame {before}: counted {counted}, status {status}", flush=True)
    return list(_faults(run, counted, status, way))


def _faults(run: Run, counted: int, status: int, way: str) -> Iterator[str]:
    written = len(json.loads(run.masks.read_text())["frames"]) if run.masks.exists() else 0
    if written < counted:
        yield f"{counted} frames were counted, and {written} are in the file"
    if counted and way != "kill command":
        shown = index_video(run.overlay).num_frames
        if shown < counted:
            yield f"{counted} frames were counted, and {shown} are in the overlay"
        if "ended after" not in run.text and counted < FRAMES:
            yield "the last lines do not say where it ended"
    if status == 0 and counted < FRAMES:
        yield "the status is 0"
    if left := run.services():
        yield f"processes are left: {left}"
    if folders := [path.name for path in run.temporary.iterdir()]:
        yield f"folders are left: {folders}"
    if memory := [folder.name for folder in _MEMORY.glob("maskmesh-*") if _is_abandoned(folder)]:
        yield f"shared memory is left: {memory}"


def _is_abandoned(folder: Path) -> bool:
    """Whether the process that made a folder has ended: it held a lock in it."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def main() -> None:
    """Run the command and print the faults; exits with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    faults = 0
    with tempfile.TemporaryDirectory() as parent:
        clip = Path(parent) / "clip.mp4"
        make_clip(clip, FRAMES)
        for number in range(options.runs):
            folder = Path(parent) / str(number)
            folder.mkdir()
            way = WAYS[number % len(WAYS)]
            for fault in end_run(clip, folder, way, chance.randrange(1, FRAMES - 20)):
                faults += 1
                print(f"  FAULT: {fault}", flush=True)
    print(f"{options.runs} runs, {faults} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
