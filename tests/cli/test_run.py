"""Signals, errors and printing of commands."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import grpc
import pytest
from click.testing import CliRunner

from maskmesh import InvalidPrompt, Unavailable
from maskmesh.cli.main import main
from maskmesh.cli.media.live_source import LiveFrame, LiveSource, SourceSilent
from maskmesh.cli.run import Commands, describe, reason_of, say, verbose_option
from tests.corpus.video_files import HEIGHT, WIDTH, Encoding, column, join, seen_column, write

SCRIPT = """
import asyncio, sys, time
from maskmesh.cli.run import run
async def work():
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.5)
        print("cleaned up", flush=True)
run(work())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_later_signals_change_nothing(name: str) -> None:
    number = getattr(signal, name)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    for _ in range(3):
        process.send_signal(number)
        time.sleep(0.05)
    output, _ = process.communicate()
    assert (output, process.returncode) == ("cleaned up\n", 128 + number)


def test_nohup_keeps_a_command_running_when_its_terminal_closes() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    process.terminate()
    output, _ = process.communicate()
    assert (output, process.returncode) == ("cleaned up\n", 128 + signal.SIGTERM)


class _Failure(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNIMPLEMENTED

    def details(self) -> str:
        return "no such method"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidPrompt("too far", field="prompt.box"), "prompt.box: too far"),
        (Unavailable("no gateway"), "no gateway"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "a.json: No such file or directory"),
        (OSError("plain"), "plain"),
        (TimeoutError(), "TimeoutError"),
        (_Failure(), "the gateway answered UNIMPLEMENTED: no such method"),
        (ExceptionGroup("several", [ValueError("first"), KeyError("second")]), "first"),
        (ZeroDivisionError("x"), "unexpected error: ZeroDivisionError: x (--verbose shows where)"),
    ],
)
def test_errors_are_sentences(error: Exception, sentence: str) -> None:
    assert describe(error) == sentence

    @click.group(cls=Commands)
    def group() -> None:
        """A group."""

    @group.command()
    @verbose_option
    def fail() -> None:
        """Fail."""
        raise error

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.output) == (1, f"Error: {sentence}\n")
    assert "Traceback" in CliRunner().invoke(group, ["fail", "--verbose"]).output


def test_reason_of_an_end() -> None:
    assert reason_of(asyncio.CancelledError()) == "stopped"
    assert reason_of(asyncio.CancelledError("the tracker ended")) == "the tracker ended"
    assert reason_of(OSError(28, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize("text", ["Dog [dQw4].json", "a[/b].json", ":dog:", "[bold]x[/bold]", "x" * 300])
def test_names_are_printed_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"masks: {text}")
    assert capsys.readouterr().err == f"masks: {text}\n"


def test_names_that_are_no_text_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say(b"\xff.mp4".decode("utf-8", "surrogateescape"))
    assert capsys.readouterr().err == "?.mp4\n"


def test_closed_pipes_end_a_command_quietly() -> None:
    script = "import sys\nfrom maskmesh.cli.main import main\nmain(['--help'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert "Traceback" not in errors


async def frames_of(source: LiveSource) -> list[LiveFrame]:
    await source.open()
    frames = []
    while (frame := await source.read()) is not None:
        frames.append(frame)
    return frames


async def test_a_silent_source_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskmesh.cli.media.live_source.SILENCE_SECONDS", 0.2)
    told: list[float] = []
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: connections.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    source = LiveSource(f"tcp://127.0.0.1:{port}", max_silence=0.5, on_silence=told.append)
    with pytest.raises(SourceSilent, match="has sent nothing for"):
        await source.open()
    source.close()
    for connection in connections:
        connection.close()
        await connection.wait_closed()
    server.close()
    await server.wait_closed()
    assert told == pytest.approx([0.2, 0.4])


async def test_a_live_source_has_one_size(tmp_path: Path) -> None:
    small = Encoding(options={"g": "12"}, size=(WIDTH // 2, HEIGHT // 2))
    parts = write(tmp_path / "a.ts", range(10)), write(tmp_path / "b.ts", range(10, 20), small)
    source = LiveSource(str(join(tmp_path / "v.ts", *parts)), max_silence=60, on_silence=print)
    frames = await frames_of(source)
    assert {frame.pixels.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    columns = [round(seen_column(frame.pixels)) for frame in frames]
    assert columns == pytest.approx([column(i) for i in range(20)], abs=2)


async def test_sources_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name in (str(tmp_path / "text.mp4"), str(tmp_path / "none.mp4"), "tcp://127.0.0.1:9"):
        source = LiveSource(name, max_silence=60, on_silence=print)
        with pytest.raises(OSError, match=name.split("/")[-1]):
            await source.open()


@pytest.mark.parametrize("name", ["up", "segment", "stream", "report", "evaluate", "bench"])
def test_every_command_that_may_fail_has_verbose(name: str) -> None:
    assert "--verbose" in CliRunner().invoke(main, [name, "--help"]).output
