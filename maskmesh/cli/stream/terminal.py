"""What a stream shows in a terminal, and what is typed there meanwhile."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from maskmesh.cli.run import console, say, warn

REFRESH_SECONDS = 0.1

Run = Callable[[str], Awaitable[str]]
"""Carries out a command; returns what to say."""


def is_interactive() -> bool:
    """Whether somebody can type: the command runs in the foreground of a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # Windows has no groups
        return True


@asynccontextmanager
async def showing(
    line: Callable[[], str], run: Run, *, commands: str | None, stop: Callable[[], None]
) -> AsyncIterator[None]:
    """Show ``line`` while the body runs, and carry out what is typed or what ``commands`` names.

    ``stop`` is called when the user ends the input (Ctrl-D).
    """
    if commands is None and is_interactive():
        reading = asyncio.ensure_future(_read_terminal(line, run, stop))
    else:
        reading = asyncio.ensure_future(_show(line))
    tasks = [reading]
    if commands is not None:
        tasks.append(asyncio.ensure_future(_read_file(commands, run)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _show(line: Callable[[], str]) -> None:
    with console.status(line()) as status:
        while True:
            status.update(line())
            await asyncio.sleep(REFRESH_SECONDS)


async def _read_terminal(line: Callable[[], str], run: Run, stop: Callable[[], None]) -> None:
    # Imported here, because it takes a tenth of a second and only a terminal needs it.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.output import create_output
    from prompt_toolkit.patch_stdout import patch_stdout

    say("type help for the commands")
    # Standard output may be a file, so the terminal is that of standard error.
    with create_app_session(output=create_output(sys.stderr)), patch_stdout(raw=True):
        session: PromptSession[str] = PromptSession(
            "> ", bottom_toolbar=line, refresh_interval=REFRESH_SECONDS
        )
        while True:
            try:
                # Signals are those of the whole command, see maskmesh.cli.run.
                typed = await session.prompt_async(handle_sigint=False)
            except EOFError:
                stop()
                return
            except KeyboardInterrupt:  # in raw mode Ctrl-C is a key
                os.kill(os.getpid(), signal.SIGINT)
                return
            if answer := await run(typed):
                say(answer)


async def _read_file(name: str, run: Run) -> None:
    """Carry out the lines of a file or pipe as they come."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        # A thread that nothing waits for: a pipe may stay silent for ever.
        with contextlib.suppress(RuntimeError):  # the loop is closed
            try:
                with open(0 if name == "-" else name, closefd=name != "-", encoding="utf-8") as file:
                    for line in file:
                        loop.call_soon_threadsafe(lines.put_nowait, line)
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                loop.call_soon_threadsafe(warn, f"--commands {name}: {reason}; the rest of it is not read")
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, name="stream-commands", daemon=True).start()
    while (line := await lines.get()) is not None:
        if answer := await run(line):
            say(answer)
