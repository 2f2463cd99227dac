"""The command ``maskmesh models``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from maskmesh.checkpoints.catalogue import OFFICIAL, OfficialCheckpoint, checkpoint_folder
from maskmesh.checkpoints.download import DownloadError, download
from maskmesh.cli.run import console, say, verbose_option, warn

if TYPE_CHECKING:
    from maskmesh.cli.models.inspection import FileInspection

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def models() -> None:
    """Download official checkpoints, and tell what a checkpoint file is.

    --model NAME finds a checkpoint that was pulled:

        \b
        maskmesh models pull sam2.1-tiny
        maskmesh segment clip.mp4 --model sam2.1-tiny --point 480,270 -o out.mp4
    """


@models.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
def list_models(*, as_json: bool) -> None:
    """List the models, and which checkpoints were pulled."""
    if as_json:
        listed = [
            asdict(each) | {"path": str(each.path), "pulled": _is_there(each)} for each in OFFICIAL.values()
        ]
        click.echo(json.dumps(listed, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "size", "licence", "checkpoint"):
        table.add_column(name, no_wrap=True, justify="right" if name == "size" else "left")
    table.add_row("micro", "11 MB", "Apache-2.0", "comes with maskmesh")
    for each in OFFICIAL.values():
        state = (
            "pulled" if _is_there(each) else "not pulled" + (", needs an account" if each.is_gated else "")
        )
        table.add_row(each.preset, f"{each.num_bytes / 1e6:.0f} MB", each.licence, state)
    output = Console(highlight=False)
    output.print(table)
    output.print(f"checkpoints are in {checkpoint_folder()}", soft_wrap=True)


@models.command()
@click.argument("name", type=click.Choice(list(OFFICIAL)))
@click.option("--url", help="Address of a mirror; the file must be the official one.")
@click.option("--token", default="", envvar="HF_TOKEN", help="Access token for hosts that require one.")
@click.option("--again", is_flag=True, help="Download it although it is there.")
@verbose_option
def pull(name: str, url: str | None, token: str, *, again: bool) -> None:
    """Download the official checkpoint NAME.

    The file is checked against its published size and SHA-256.  A download that breaks off is continued, by
    this command or by the next one.
    """
    official = OFFICIAL[name]
    if _is_there(official) and not again:
        say(f"{name}: {official.path}")
        return
    if official.is_gated and not token and url is None:
        raise click.UsageError(
            f"{name} is published under the {official.licence}: accept it with an account at "
            f"{official.url.partition('/resolve/')[0]}, and give --token or HF_TOKEN"
        )
    columns = (TextColumn(name), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=official.num_bytes)
        try:
            download(
                url or official.url,
                official.path,
                num_bytes=official.num_bytes,
                sha256=official.sha256,
                token=token if url is None else "",
                progress=lambda done: progress.update(task, completed=done),
            )
        except DownloadError as error:
            raise click.ClickException(str(error)) from error
    say(f"{name}: {official.path}")


@models.command()
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
def info(file: Path, *, as_json: bool) -> None:
    """Tell which model a checkpoint FILE is for, its size, types and digests."""
    found = _inspected(file)
    if as_json:
        click.echo(json.dumps(asdict(found) | {"official": found.official}, indent=2))
        return
    for line in _lines(found):
        click.echo(line)


@models.command()
@click.argument("file", type=_FILE)
@click.option("--model", "preset", help="The model that it must be for.")
@verbose_option
def verify(file: Path, preset: str | None) -> None:
    """Check that a checkpoint FILE is complete and fits a model.

    The exit status is 0 if it does, and 1 if not.
    """
    found = _inspected(file)
    if not found.preset:
        raise click.ClickException(f"{file.name} fits no model: {found.problem}")
    if preset is not None and found.preset != preset:
        raise click.ClickException(f"{file.name} is a checkpoint of {found.preset}, not of {preset}")
    if found.num_not_finite:
        raise click.ClickException(f"{found.num_not_finite} tensors have values that are not finite")
    published = found.official
    if published:
        say(f"{file.name} is the official checkpoint of {published}")
    else:
        say(f"{file.name} fits {found.preset}; it is not the official file")


def _is_there(official: OfficialCheckpoint) -> bool:
    return official.path.is_file() and official.path.stat().st_size == official.num_bytes


def _inspected(file: Path) -> "FileInspection":
    try:
        # Imported here, because only these commands need torch, which is an extra.
        from maskmesh.cli.models.inspection import inspect
    except ImportError as error:
        raise click.ClickException(f"{error}; pip install 'maskmesh[services]'") from error
    with console.status(f"reading {file.name}"):
        return inspect(file)


def _lines(found: "FileInspection") -> list[str]:
    lines = [
        f"model:       {found.preset or 'none: ' + found.problem}",
        f"published:   {'yes, the official file of ' + found.official if found.official else 'no'}",
        f"parameters:  {found.parameters:,} in {', '.join(found.dtypes)}",
        f"file:        {found.num_bytes:,} bytes, SHA-256 {found.sha256}",
    ]
    if found.weights_digest:
        lines.append(f"weights:     {found.weights_digest}")
    if found.num_not_finite:
        warn(f"{found.num_not_finite} tensors have values that are not finite")
    return lines
