"""Rescuing a damaged spool: what can be read is copied, the damaged file stays as it is."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.spools import all_of, entry, opened
from walnatsd.cli import main
from walnatsd.spool.errors import SpoolFileError
from walnatsd.spool.rescue import rescue

COUNT = 400


@pytest.fixture
async def damaged(tmp_path) -> Path:
    """A spool with 400 messages, two of them set aside."""
    path = tmp_path / "spool.db"
    async with opened(path) as spool:
        await asyncio.gather(*(spool.append(entry(number, payload=b"%d " % number * 100)) for number in range(COUNT)))
        for kept in (await spool.read("counts", 0))[:2]:
            await spool.set_aside(kept, "TOO_LARGE", "too large")
    return path


async def test_of_a_whole_file_everything_is_copied(damaged, tmp_path) -> None:
    before = damaged.read_bytes()
    rescued = rescue(str(damaged), str(tmp_path / "new.db"))
    assert (rescued.messages, rescued.set_aside, rescued.lost) == (COUNT - 2, 2, 0)
    assert damaged.read_bytes() == before
    async with opened(tmp_path / "new.db") as spool:
        assert await all_of(spool) == [b"%d " % number * 100 for number in range(2, COUNT)]
        assert spool.set_aside_messages == 2


async def test_what_stands_in_the_log_alone_is_copied_too(tmp_path) -> None:
    path = tmp_path / "spool.db"
    async with opened(path) as spool:
        await spool.append(entry(1))
        whole, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()  # noqa: ASYNC240
    path.write_bytes(whole)
    Path(f"{path}-wal").write_bytes(log)  # noqa: ASYNC240
    assert rescue(str(path), str(tmp_path / "new.db")).messages == 1


async def test_a_wrong_bit_costs_one_message(damaged, tmp_path) -> None:
    whole = damaged.read_bytes()
    at = whole.index(b"123 123 123 123")
    damaged.write_bytes(whole[:at] + b"0" + whole[at + 1 :])
    rescued = rescue(str(damaged), str(tmp_path / "new.db"))
    assert (rescued.messages, rescued.set_aside, rescued.lost) == (COUNT - 3, 2, 1)
    async with opened(tmp_path / "new.db") as spool:
        assert len(await all_of(spool)) == COUNT - 3


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.9])
async def test_a_page_of_noise_costs_the_messages_on_it(damaged, tmp_path, at) -> None:
    whole = bytearray(damaged.read_bytes())
    start = int(len(whole) * at) // 4096 * 4096
    whole[start : start + 4096] = b"\xa5" * 4096
    damaged.write_bytes(whole)
    rescued = rescue(str(damaged), str(tmp_path / "new.db"))
    assert rescued.messages >= COUNT - 2 - 12
    async with opened(tmp_path / "new.db") as spool:
        found = [int(payload.split()[0]) for payload in await all_of(spool)]
    assert found == sorted(found)
    assert len(found) == rescued.messages


async def test_of_a_file_that_is_cut_short_the_rest_is_copied(damaged, tmp_path) -> None:
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) * 3 // 4 // 4096 * 4096])
    rescued = rescue(str(damaged), str(tmp_path / "new.db"))
    assert COUNT / 2 < rescued.messages < COUNT
    async with opened(tmp_path / "new.db") as spool:
        assert len(await all_of(spool)) == rescued.messages


async def test_of_what_is_no_database_nothing_can_be_read_and_no_new_file_is_left(tmp_path) -> None:
    (tmp_path / "noise.db").write_bytes(b"noise" * 2000)
    with pytest.raises(SpoolFileError, match=r"nothing of .* can be read"):
        rescue(str(tmp_path / "noise.db"), str(tmp_path / "new.db"))
    assert [file.name for file in tmp_path.iterdir()] == ["noise.db"]


def test_the_command_says_how_many(damaged, tmp_path) -> None:
    done = CliRunner().invoke(main, ["spool", "rescue", str(damaged), str(tmp_path / "new.db")])
    assert (done.exit_code, "rescued 398 messages that wait, and 2 that were set aside" in done.output) == (0, True)
    again = CliRunner().invoke(main, ["spool", "rescue", str(damaged), str(tmp_path / "new.db")])
    assert again.exit_code == 1
    assert "exists; give a path where nothing is" in again.output
    done = CliRunner().invoke(main, ["spool", "rescue", "--json", str(damaged), str(tmp_path / "newer.db")])
    assert json.loads(done.output) == {"messages": 398, "set_aside": 2, "lost": 0}
