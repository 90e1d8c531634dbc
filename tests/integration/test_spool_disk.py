"""A disk that is full, a file that is damaged or taken: the daemon says so, and nothing acknowledged is lost."""

import asyncio
import resource
import signal

from support.daemon import Process, config_text, process
from support.outages import config, is_forwarded, waiting
from support.streams import stored
from support.waiting import until

HOLDS_THE_DISK_SMALL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))"


async def test_a_full_disk_refuses_emits_while_nats_is_away_and_is_used_again_when_it_has_room(nats, tmp_path) -> None:
    text = config(nats, tmp_path)
    await nats.stop()
    async with process(tmp_path / "daemon", text, ready=False, prelude=HOLDS_THE_DISK_SMALL) as daemon:
        acknowledged = []
        for number in range(200):
            status, answer = await daemon.sidecar.try_emit("counts", f"{number:04000}", uid=str(number))
            if status == 503:
                break
            acknowledged.append(number)
        assert (answer["reason"], answer["uid"], answer["maybe_stored"]) == ("NATS_UNAVAILABLE", str(number), False)
        assert "the disk of the spool does not take it" in answer["detail"]
        assert 5 < len(acknowledged) == await waiting(daemon.sidecar)
        await until(lambda: daemon.said("the spool can't be written"))
        assert (await daemon.sidecar.metrics())["walnatsd_spool_write_failures_total"] >= 1

        everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, everything)
        assert (await daemon.sidecar.try_emit("counts", f"{number:04000}", uid=str(number)))[0] == 202
        await until(lambda: daemon.said("the spool can be written again"))
        await nats.start()
        await until(lambda: is_forwarded(daemon.sidecar))
        assert await daemon.end() == 0
    assert [int(payload) for payload, _ in await stored(nats)] == [*acknowledged, number]


async def test_with_a_full_disk_and_nats_there_emits_go_on(nats, tmp_path) -> None:
    async with process(tmp_path / "daemon", config(nats, tmp_path)) as daemon:
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        assert (await daemon.sidecar.try_emit("counts", "1"))[0] == 201


async def ended(tmp_path, text: str) -> Process:
    """Start a daemon that ends by itself, with 1."""
    daemon = Process(tmp_path / "ended", text)
    try:
        await daemon.start(ready=False)
    except AssertionError:
        assert await daemon.wait() == 1
        return daemon
    await daemon.end(signal.SIGKILL)
    raise AssertionError("the daemon started")


async def test_a_damaged_file_ends_the_start_with_words_and_is_left_as_it_is(nats, tmp_path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"SQLite format 3\0" + b"noise" * 2000)
    before = path.read_bytes()
    daemon = await ended(tmp_path, config(nats, tmp_path))
    assert daemon.said("is damaged")
    assert daemon.said("walnatsd spool rescue")
    assert not daemon.said("Traceback")
    assert path.read_bytes() == before


async def test_a_second_daemon_on_the_same_file_ends_with_words(nats, tmp_path) -> None:
    text = config(nats, tmp_path)
    async with process(tmp_path / "first", text) as first:
        second = await ended(tmp_path, text)
        assert second.said("is in use by another process")
        assert await first.sidecar.is_ready()


async def test_a_path_that_can_not_be_used_ends_the_start_with_words(nats, tmp_path) -> None:
    text = config_text(nats.url, spool={"path": str(tmp_path / "none" / "spool.db")})
    assert (await ended(tmp_path, text)).said("does not exist; make it, or change spool.path")
    text = config_text(nats.url, spool={"path": str(tmp_path)})
    assert (await ended(tmp_path, text)).said("is not a file")


async def test_emits_of_many_callers_share_transactions_under_way(nats, tmp_path) -> None:
    await nats.stop()
    async with process(tmp_path / "daemon", config(nats, tmp_path), ready=False) as daemon:
        answers = await asyncio.gather(*(daemon.sidecar.try_emit("counts", str(n)) for n in range(300)))
        assert {status for status, _ in answers} == {202}
        await daemon.end(signal.SIGKILL)
        await daemon.start(ready=False)
        assert await waiting(daemon.sidecar) == 300
