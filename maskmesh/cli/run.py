"""What all commands have in common: printing, signals, and errors as sentences with an exit status."""

import asyncio
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import click
import grpc
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from maskmesh.cli.mesh.service_process import MeshError
from maskmesh.cli.tracing import traced
from maskmesh.errors import InvalidRequest, MaskmeshError

console = Console(stderr=True, highlight=False)

_VERBOSE = "maskmesh.verbose"
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def say(text: str, style: str = "") -> None:
    """Print a line as it is: names of files are no markup, and lines are not broken."""
    printable = text.encode("utf-8", "replace").decode("utf-8")
    console.print(Text(printable, style), soft_wrap=True)


def progress_bars(*columns: ProgressColumn) -> Progress:
    """Bars with a description, the count and the elapsed time; ``columns`` stand before the time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeElapsedColumn(),
        console=console,
    )


def warn(text: str) -> None:
    """Print a warning."""
    say(text, "yellow")


def verbose_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --verbose to a command; :func:`is_verbose` tells whether it is given."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        context.meta[_VERBOSE] = value

    return click.option(
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the logs of services that are started, and tracebacks of errors.",
    )(command)


def is_verbose() -> bool:
    """Whether the command that runs has the flag --verbose."""
    return bool(click.get_current_context().meta.get(_VERBOSE))


def describe(error: BaseException) -> str:
    """An error as a sentence."""
    if isinstance(error, BaseExceptionGroup):
        return describe(error.exceptions[0])
    if isinstance(error, InvalidRequest):
        return f"{error.field}: {error}"
    if isinstance(error, grpc.RpcError):
        code = getattr(error, "code", lambda: None)()
        details = getattr(error, "details", lambda: "")()
        return f"the gateway answered {code.name if code else 'an error'}: {details}"
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}"
    if isinstance(error, MaskmeshError | MeshError | OSError | ValueError):
        return str(error) or type(error).__name__
    return f"unexpected error: {type(error).__name__}: {error} (--verbose shows where)"


class Commands(click.Group):
    """The commands; the one place where their errors become sentences.

    Exit status: 0 done, 1 failed, 2 wrong usage, 128 and the number of the signal that stopped the command.
    """

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = lambda message, *_, **__: warn(f"warning: {message}")
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, SystemExit):
            raise
        except BrokenPipeError:
            # Whoever reads the output has enough.  Python would report the pipe once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + 13)
        except Exception as error:
            if ctx.meta.get(_VERBOSE):
                traceback.print_exc()
            raise click.ClickException(describe(error)) from error


def run(work: Coroutine[Any, Any, None], *, trace: str = "") -> None:
    """Run a command's work.  SIGINT, SIGTERM and SIGHUP cancel it once; later signals change nothing.

    ``trace`` is the name of the command if it has a trace of its own, see :func:`traced`.
    """
    received: list[int] = []

    async def run_until_signal() -> None:
        task = asyncio.ensure_future(work)

        def stop(number: int) -> None:
            if not received:
                received.append(number)
                task.cancel()

        _handle_signals(stop)
        await task

    try:
        with traced(trace):
            asyncio.run(run_until_signal())
    except asyncio.CancelledError:
        if not received:
            raise
    if received:
        sys.exit(128 + received[0])


def _handle_signals(stop: Callable[[int], None]) -> None:
    """Call ``stop`` with the number of each signal, on whatever platform."""
    loop = asyncio.get_running_loop()
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue  # Windows has no SIGHUP, and nohup makes a command ignore it
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda n, _: loop.call_soon_threadsafe(stop, n))


def reason_of(error: BaseException) -> str:
    """Why work has ended, for the last lines of a command."""
    if isinstance(error, asyncio.CancelledError):
        return str(error.args[0]) if error.args else "stopped"
    return describe(error)
