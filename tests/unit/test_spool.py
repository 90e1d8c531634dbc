"""The spool alone: what is acknowledged is on the disk, in order, within its limits, and damage is told."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.spools import Clock, all_of, entry, opened
from support.waiting import until
from walnatsd.spool import writer as writer_module
from walnatsd.spool.entry import ROW_BYTES
from walnatsd.spool.errors import ClosedError, FullError, SpoolFileError, WriteError
from walnatsd.spool.file import open_file
from walnatsd.spool.wal import lost_transactions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


# ---- keeping


async def test_what_was_kept_is_there_after_a_restart_in_the_order_of_the_emits(path) -> None:
    async with opened(path) as spool:
        await asyncio.gather(*(spool.append(entry(number)) for number in range(700)))
        assert spool.messages == 700
    async with opened(path) as spool:
        assert spool.messages == 700
        assert await all_of(spool) == [b"%d" % number for number in range(700)]
        await spool.append(entry(700))
        assert (await all_of(spool))[-1] == b"700"


async def test_everything_of_a_message_comes_back_as_it_was(path) -> None:
    given = entry(
        header={"Nats-Msg-Id": "u", "ce-subject": "ü"}, payload=bytes(range(256)), emitted_at=1234.5, deliver_at=99.25
    )
    async with opened(path) as spool:
        await spool.append(given)
    async with opened(path) as spool:
        [kept] = await spool.read("counts", 0)
    assert kept.entry == given


async def test_what_is_answered_is_on_the_disk_though_the_process_is_killed_at_once(path) -> None:
    code = f"""
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.spools import entry, opened
async def main():
    async with opened(Path({str(path)!r})) as spool:
        await asyncio.gather(*(spool.append(entry(number)) for number in range(50)))
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()
    async with opened(path) as spool:
        assert await all_of(spool) == [b"%d" % number for number in range(50)]


async def test_many_emits_share_a_transaction(path, monkeypatch) -> None:
    transactions = []
    transact = writer_module._transact
    monkeypatch.setattr(writer_module, "_transact", lambda *given: (transactions.append(1), transact(*given))[1])
    async with opened(path) as spool:
        await asyncio.gather(*(spool.append(entry(number)) for number in range(500)))
    assert len(transactions) <= 3


async def test_an_emit_whose_caller_has_gone_is_kept_and_counted(path) -> None:
    async with opened(path) as spool:
        task = asyncio.create_task(spool.append(entry(1)))
        await asyncio.sleep(0)
        task.cancel()
        await spool.append(entry(2))
        assert spool.messages == 2
        assert await all_of(spool) == [b"1", b"2"]


async def test_a_uid_that_waits_already_is_kept_once_but_not_over_events(path) -> None:
    async with opened(path) as spool:
        assert await spool.append(entry(1)) is True
        assert await spool.append(entry(1)) is False
        assert await spool.append(entry(1, event="others")) is True
        assert spool.messages == 2
        await spool.remove("counts", await spool.read("counts", 0))
        assert await spool.append(entry(1)) is True


async def test_events_wait_apart_from_each_other(path) -> None:
    async with opened(path) as spool:
        for number in range(4):
            await spool.append(entry(number, event="ab"[number % 2]))
        assert (await all_of(spool, "a"), await all_of(spool, "b")) == ([b"0", b"2"], [b"1", b"3"])
        await spool.remove("a", await spool.read("a", 0))
        assert (spool.holds("a"), spool.holds("b")) == (False, True)


async def test_a_read_is_bounded_in_bytes_and_gives_one_message_at_least(path, monkeypatch) -> None:
    monkeypatch.setattr("walnatsd.spool.spool.READ_BYTES", 1000)
    async with opened(path) as spool:
        await spool.append(entry(0, payload=bytes(5000)))
        for number in range(1, 9):
            await spool.append(entry(number))
        first = await spool.read("counts", 0)
        assert [len(kept.entry.payload) for kept in first] == [5000]
        assert 1 < len(await spool.read("counts", first[-1].id)) < 8


# ---- limits


async def test_beyond_max_bytes_nothing_is_taken_and_nothing_is_dropped(path) -> None:
    async with opened(path, max_bytes=10 * (1000 + ROW_BYTES)) as spool:
        taken = 0
        with pytest.raises(FullError, match=r"of 12000 bytes \(spool.max_bytes\)"):
            for taken in range(100):
                await spool.append(entry(taken, payload=bytes(1000)))
        assert taken == spool.messages == 9
        await spool.remove("counts", (await spool.read("counts", 0))[:1])
        await spool.append(entry(100, payload=bytes(1000)))
        assert len(await all_of(spool)) == 9


async def test_while_the_oldest_is_beyond_max_age_nothing_is_taken(path) -> None:
    clock = Clock()
    async with opened(path, max_age=60, now=clock) as spool:
        await spool.append(entry(1))
        clock.now += 60
        await spool.append(entry(2, emitted_at=clock.now))
        clock.now += 1
        with pytest.raises(FullError, match=r"waited for 61 s.*spool\.max_age"):
            await spool.append(entry(3))
        await spool.remove("counts", (await spool.read("counts", 0))[:1])
        await spool.append(entry(4, emitted_at=clock.now))
        assert await all_of(spool) == [b"2", b"4"]
        assert spool.oldest_age_s == 1


async def test_what_waits_for_room_in_one_stream_does_not_age_the_spool_for_others(path) -> None:
    clock = Clock()
    async with opened(path, max_age=60, now=clock) as spool:
        await spool.append(entry(1))
        spool.queues["counts"].waits_for = "room in the stream"
        clock.now += 1000
        await spool.append(entry(2, event="others", emitted_at=clock.now))


async def test_the_file_becomes_small_again_when_all_is_forwarded(path) -> None:
    async with opened(path) as spool:
        for start in range(0, 4000, 1000):
            await asyncio.gather(*(spool.append(entry(n, payload=bytes(4000))) for n in range(start, start + 1000)))
        largest = _bytes_on_disk(path)
        assert largest > 16_000_000
        while page := await spool.read("counts", 0):
            await spool.remove("counts", page)
        await until(lambda: _bytes_on_disk(path) < 100_000)


async def test_freed_space_is_used_again(path) -> None:
    async with opened(path) as spool:
        await spool.append(entry(0, event="stays"))
        for round_ in range(20):
            await asyncio.gather(*(spool.append(entry(n, payload=bytes(4000))) for n in range(250)))
            while page := await spool.read("counts", 0):
                await spool.remove("counts", page)
            if round_ == 3:
                early = _bytes_on_disk(path)
        assert _bytes_on_disk(path) < 1.5 * early


def _bytes_on_disk(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir() if file.name.startswith(path.name))


# ---- set aside


async def test_what_is_set_aside_makes_way_and_can_be_put_back_or_discarded(path) -> None:
    async with opened(path) as spool:
        for number in range(3):
            await spool.append(entry(number))
        before = spool.bytes
        first, second, _ = await spool.read("counts", 0)
        await spool.set_aside(first, "TOO_LARGE", "larger than it may be")
        await spool.set_aside(second, "TOO_LARGE", "larger than it may be")
        assert (spool.messages, spool.set_aside_messages, spool.bytes) == (1, 2, before)
    async with opened(path) as spool:
        assert (spool.messages, spool.set_aside_messages, spool.bytes) == (1, 2, before)
        aside = await spool.set_aside_page(0, 10)
        assert [(each.kept.entry.payload, each.reason) for each in aside] == [(b"0", "TOO_LARGE"), (b"1", "TOO_LARGE")]
        assert await spool.put_back(aside[0].kept.id) is True
        assert await spool.discard(aside[1].kept.id) is True
        assert await spool.discard(aside[1].kept.id) is await spool.put_back(999) is False
        assert await all_of(spool) == [b"2", b"0"]
        assert (spool.messages, spool.set_aside_messages) == (2, 0)


# ---- the disk


async def test_who_goes_while_what_was_set_aside_is_put_back_or_discarded_leaves_the_counts_right(path) -> None:
    async with opened(path) as spool:
        for number in range(2):
            await spool.append(entry(number))
        for kept in await spool.read("counts", 0):
            await spool.set_aside(kept, "TOO_LARGE", "it is too large")
        told: list[str] = []
        spool.on_append(told.append)
        [first, second] = await spool.set_aside_page(0, 10)
        calls = [asyncio.create_task(spool.put_back(first.kept.id)), asyncio.create_task(spool.discard(second.kept.id))]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: told == ["counts"])
        assert (spool.messages, spool.set_aside_messages, spool.holds("counts")) == (1, 0, True)
        await spool.remove("counts", await spool.read("counts", 0))
        assert (spool.messages, spool.bytes) == (0, 0)


async def test_a_full_disk_refuses_and_what_was_kept_stays_and_more_is_taken_when_there_is_room_again(path) -> None:
    async with opened(path) as spool:
        await spool.append(entry(0))
        connection = spool._writer._connection
        [pages] = await spool._writer.read(lambda _: connection.execute("PRAGMA page_count").fetchone())
        await spool._writer.read(lambda _: connection.execute(f"PRAGMA max_page_count = {pages + 5}").fetchone())
        answers = await asyncio.gather(
            *(spool.append(entry(n, payload=bytes(4000))) for n in range(1, 20)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {WriteError}
        assert "database or disk is full" in str(answers[0])
        assert spool.messages == 1
        await spool._writer.read(lambda _: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
        await spool.append(entry(30))
        assert await all_of(spool) == [b"0", b"30"]


async def test_a_removal_that_the_disk_does_not_take_is_made_up_for(path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "REPEAT_S", 0.01)
    async with opened(path) as spool:
        await spool.append(entry(0))
        connection = spool._writer._connection
        await spool._writer.read(lambda _: connection.execute("PRAGMA query_only = ON"))
        await spool.remove("counts", await spool.read("counts", 0))
        assert not spool.holds("counts"), "it is stored in JetStream, so later ones need not wait"
        await spool._writer.read(lambda _: connection.execute("PRAGMA query_only = OFF"))
    async with opened(path) as spool:
        assert spool.messages == 0


async def test_what_could_not_be_removed_is_not_read_again_with_what_comes_next(path, monkeypatch) -> None:
    """It is stored in JetStream: were it read again, it would be forwarded again, and counted off twice."""
    monkeypatch.setattr(writer_module, "REPEAT_S", 3600.0)
    monkeypatch.setattr(writer_module, "MAX_JOBS", 1)
    async with opened(path) as spool:
        for number in range(3):
            await spool.append(entry(number))
        page = await spool.read("counts", 0)
        connection = spool._writer._connection
        await spool._writer.read(lambda _: connection.execute("PRAGMA query_only = ON"))
        writes = asyncio.gather(spool.remove("counts", page), spool.append(entry(3)))
        while len(spool._writer._jobs) != 1:  # noqa: ASYNC110 - until the removal is under way
            await asyncio.sleep(0)
        await spool._writer.read(lambda _: connection.execute("PRAGMA query_only = OFF"))
        await writes
        page = await spool.read("counts", 0)
        assert [kept.entry.payload for kept in page] == [b"3"]
        await spool.remove("counts", page)
        assert (spool.messages, spool.bytes, spool.holds("counts")) == (0, 0, False)


async def test_a_uid_whose_removal_failed_is_free_again(path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module.Writer, "_clear_leftover", lambda _self: asyncio.sleep(0))
    async with opened(path) as spool:
        await spool.append(entry(1))
        connection = spool._writer._connection
        await spool._writer.read(lambda _: connection.execute("PRAGMA query_only = ON"))
        await spool.remove("counts", await spool.read("counts", 0))
        await spool._writer.read(lambda _: connection.execute("PRAGMA query_only = OFF"))
        assert await spool.append(entry(1, payload=b"of a later outage")) is True
        assert await all_of(spool) == [b"of a later outage"]


async def test_what_is_written_while_the_oldest_is_removed_is_as_young_as_it_is(path) -> None:
    clock = Clock()
    async with opened(path, max_age=60, now=clock) as spool:
        await spool.append(entry(1))
        page = await spool.read("counts", 0)
        clock.now += 50
        await asyncio.gather(spool.remove("counts", page), spool.append(entry(2, emitted_at=clock.now)))
        assert spool.oldest_age_s == 0
        clock.now += 20
        await spool.append(entry(3, emitted_at=clock.now))


async def test_after_the_end_nothing_is_taken(path) -> None:
    async with opened(path) as spool:
        pass
    with pytest.raises(ClosedError):
        await spool.append(entry(1))
    assert spool.messages == 0


def test_only_the_owner_can_read_the_files(path) -> None:
    umask = os.umask(0)
    try:
        with contextlib.closing(open_file(str(path))) as connection:
            connection.execute("DELETE FROM message")
            assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
            assert sorted(file.name for file in path.parent.iterdir()) == ["spool.db", "spool.db-wal"]
        path.chmod(0o644)
        open_file(str(path)).close()
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_is_written_through_to_the_disk_with_each_commit(path) -> None:
    with contextlib.closing(open_file(str(path))) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# ---- files that can't be used


def refusal_of(path: Path) -> str:
    with pytest.raises(SpoolFileError) as caught:
        open_file(str(path)).close()
    return str(caught.value)


def test_a_file_that_another_one_has_is_told_as_in_use(path, monkeypatch) -> None:
    monkeypatch.setattr("walnatsd.spool.file.LOCK_TIMEOUT_S", 0.01)
    with contextlib.closing(open_file(str(path))):
        assert "is in use by another process; each sidecar needs a file of its own" in refusal_of(path)


def test_a_folder_that_is_not_there_is_told(tmp_path) -> None:
    assert "the folder of the spool" in refusal_of(tmp_path / "none" / "spool.db")


def test_a_folder_in_place_of_the_file_is_told(tmp_path) -> None:
    assert "is not a file" in refusal_of(tmp_path)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_file_or_folder_that_can_not_be_written_is_told(what) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # tmp_path is in a folder of this user's alone
        path = Path(folder, "spool.db")
        open_file(str(path)).close()
        path.chmod(0o444 if what == "file" else 0o666)
        Path(folder).chmod(0o777 if what == "file" else 0o555)
        with _as_nobody():
            text = refusal_of(path if what == "file" else Path(folder, "other.db"))
        assert "ermi" in text or "can't be written" in text
        assert "spool.path" in text
        Path(folder).chmod(0o700)


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """To root, everything is writable."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was == 0:
            os.seteuid(0)


def test_a_file_of_another_kind_is_not_touched(path) -> None:
    path.write_bytes(b"precious words, " * 100)
    assert "is damaged: file is not a database" in refusal_of(path)
    assert path.read_bytes() == b"precious words, " * 100


def test_a_database_of_another_program_is_not_touched(path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE precious (words TEXT)")
    before = path.read_bytes()
    assert "is a database of another program" in refusal_of(path)
    assert path.read_bytes()[100:] == before[100:]


def test_a_file_of_a_later_version_is_told(path) -> None:
    open_file(str(path)).close()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    assert "another version of walnatsd (format 2, this one has 1)" in refusal_of(path)


# ---- damage


async def filled(path: Path, count: int = 400) -> None:
    async with opened(path) as spool:
        for start in range(0, count, 100):
            await asyncio.gather(*(spool.append(entry(n, payload=b"%d " % n * 100)) for n in range(start, start + 100)))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
async def test_a_file_that_is_cut_short_is_told_as_damaged_and_left_as_it_is(path, share) -> None:
    await filled(path)
    whole = path.read_bytes()
    path.write_bytes(cut := whole[: int(len(whole) * share)])
    text = refusal_of(path)
    assert "is damaged: " in text
    assert "walnatsd spool rescue" in text
    assert path.read_bytes()[:1000] == cut[:1000]


async def test_an_empty_file_is_damage_for_it_once_was_a_spool(path) -> None:
    path.touch()
    assert "it is empty, which the file of a spool never is" in refusal_of(path)


async def test_a_single_wrong_bit_in_a_payload_is_damage_though_the_database_is_in_order(path) -> None:
    await filled(path)
    whole = path.read_bytes()
    at = whole.index(b"123 123 123 123")
    path.write_bytes(whole[:at] + b"0" + whole[at + 1 :])
    assert "the message with the id 124 is not what was written" in refusal_of(path)


@pytest.mark.parametrize("at", [0.05, 0.5, 0.95])
async def test_a_page_of_noise_is_damage(path, at) -> None:
    await filled(path)
    whole = bytearray(path.read_bytes())
    start = int(len(whole) * at) // 4096 * 4096
    whole[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(whole)
    assert "is damaged" in refusal_of(path)


@pytest.fixture
async def log(path) -> bytes:
    """The log of a spool with 30 messages whose process was killed: the file beside it has none of them yet."""
    async with opened(path) as spool:
        for number in range(30):
            await spool.append(entry(number))
        file, log = _bytes_of(path), _bytes_of(log_of(path))
    path.write_bytes(file)
    return log


def _bytes_of(file: Path) -> bytes:
    return file.read_bytes()


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


async def test_a_log_that_is_whole_or_ends_in_the_middle_of_the_last_transaction_is_no_damage(path, log) -> None:
    assert lost_transactions(log) == 0
    assert lost_transactions(log[:-100]) == 0
    torn = bytearray(log)
    torn[-50] ^= 1
    assert lost_transactions(bytes(torn)) == 0
    log_of(path).write_bytes(log)
    async with opened(path) as spool:
        assert len(await all_of(spool)) == 30


def test_damage_in_the_middle_of_the_log_is_told_although_sqlite_passes_over_it(path, log) -> None:
    log_of(path).write_bytes(log[: len(log) // 2] + b"?" + log[len(log) // 2 + 1 :])
    assert "transactions behind the damage are lost" in refusal_of(path)


def test_a_log_without_its_file_is_told(path, log) -> None:
    log_of(path).write_bytes(log)
    path.unlink()
    assert "it is missing, and its log" in refusal_of(path)


def test_processes_that_make_the_file_at_once_make_one_file(path) -> None:
    code = f"""
from walnatsd.spool.file import SpoolFileError, open_file
try:
    open_file({str(path)!r})
    print("has it", flush=True)
    input()
except SpoolFileError as error:
    print(error, flush=True)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate("\n", timeout=20)
    assert sorted("has it" in line for line in said) == [False, False, True]
    assert all("has it" in line or "in use" in line for line in said)
    assert [file.name for file in path.parent.iterdir()] == ["spool.db"]
