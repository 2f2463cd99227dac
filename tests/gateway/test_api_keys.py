"""Rate limits of API keys, and the entries that ``maskmesh key`` prints."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.api_keys import ApiKeys, Caller, current_caller
from maskmesh import ResourceExhausted
from maskmesh.cli.main import main


def written(path: Path, frames_per_second: float, name: str = "a") -> Path:
    digest = hashlib.sha256(b"secret").hexdigest()
    path.write_text(
        f'[[key]]\nname = "{name}"\nsha256 = "{digest}"\nframes_per_second = {frames_per_second}\n'
    )
    return path


def caller_of(keys: ApiKeys) -> Caller:
    keys.authenticate({"authorization": "Bearer secret"})
    return current_caller()


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.5, 1.99, 2.0, 30.0])
async def test_every_rate_admits_frames_of_streams(rate: float, tmp_path: Path) -> None:
    caller = caller_of(ApiKeys(written(tmp_path / "keys.toml", rate)))
    await asyncio.wait_for(caller.wait_for_stream_frame(), 5)


async def test_a_stream_leaves_a_frame_to_interactive_calls(tmp_path: Path) -> None:
    caller = caller_of(ApiKeys(written(tmp_path / "keys.toml", 2.0)))
    await asyncio.wait_for(caller.wait_for_stream_frame(), 5)
    await caller.count_interactive_frame()
    with pytest.raises(ResourceExhausted):
        await caller.count_interactive_frame()


@pytest.mark.parametrize(("before", "after"), [(0.01, 1.0), (1.0, 0.5), (2.0, 4.0)])
async def test_a_changed_rate_is_applied(before: float, after: float, tmp_path: Path) -> None:
    path = written(tmp_path / "keys.toml", before)
    keys = ApiKeys(path)
    of_a_session = caller_of(keys)
    await of_a_session.count_interactive_frame()
    written(path, after, name="a")
    for _ in range(50):  # the file is examined at most once in a while
        caller = caller_of(keys)
        assert caller.rate is not None
        if caller.rate.max_rate / caller.rate.time_period == pytest.approx(after):
            assert of_a_session.rate is caller.rate  # sessions that exist have the new rate too
            return
        await asyncio.sleep(0.1)
    pytest.fail("the key has its old rate")


@pytest.mark.parametrize("name", ["team-a", "team 😀", 'a "b" \\ c', "tab\there", "del\x7f", "Zoë"])
async def test_a_printed_entry_is_read(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["key", name])
    assert result.exit_code == 0, result.output
    path = tmp_path / "keys.toml"
    path.write_text(result.stdout, encoding="utf-8")
    secret = result.stderr.split()[-1]
    keys = ApiKeys(path)
    keys.authenticate({"authorization": f"Bearer {secret}"})
    assert current_caller().name == name


@pytest.mark.parametrize("name", ["", "\udcff"])
def test_a_key_needs_a_name(name: str) -> None:
    result = CliRunner().invoke(main, ["key", name])
    assert result.exit_code == 2
    assert "NAME" in result.output
