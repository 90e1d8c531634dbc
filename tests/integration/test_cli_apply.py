"""`walnatsd apply`: registers and exits."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.js.errors import NotFoundError

from support.clocks import schedule, subjects
from support.nats_server import NatsServer, binary_of, nats_server
from support.streams import stored


async def apply(folder: Path, server: NatsServer, /, *options: str, **parts: Any) -> tuple[int, list[str], list[str]]:
    """Run the command with a config: exit code, lines of output, lines of errors."""
    file = folder / "walnatsd.yaml"
    file.write_text(yaml.safe_dump({"nats": {"servers": [server.url]}, "dead_letters": {"bytes": "16MiB"}} | parts))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", "apply", "-c", str(file), *options,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), err.decode().splitlines()


async def config_of(nats: NatsServer, what: str) -> dict[str, Any] | None:
    async with nats.jetstream() as jetstream:
        try:
            return (await jetstream._api_request(f"$JS.API.{what}", b""))["config"]
        except NotFoundError:
            return None


DECLARED: dict[str, Any] = {
    "events": [{"name": "counts", "description": "Numbers."}],
    "actors": [{"name": "act", "event": "counts", "url": "http://127.0.0.1:1/", "ack_wait": 5}],
}


async def test_it_registers_and_exits_with_0_and_says_nothing_new_the_second_time(nats, tmp_path) -> None:
    first = await apply(tmp_path, nats, **DECLARED)
    second = await apply(tmp_path, nats, **DECLARED)
    assert first == (0, ["event counts: created", "actor act of counts: created"], [])
    assert second == (0, ["event counts: nothing to do", "actor act of counts: nothing to do"], [])
    stream, consumer = await config_of(nats, "STREAM.INFO.counts"), await config_of(nats, "CONSUMER.INFO.counts.act")
    assert stream is not None
    assert stream["description"] == "Numbers."
    assert consumer is not None
    assert consumer["ack_wait"] == 5 * 10**9
    assert await config_of(nats, "STREAM.INFO.walnatsd-dead-letters") is not None


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(nats, tmp_path) -> None:
    assert await apply(tmp_path, nats, "--dry-run", **DECLARED) == (
        0, ["event counts: would be created", "actor act of counts: would be created"], [],
    )  # fmt: skip
    for what in ("STREAM.INFO.counts", "STREAM.INFO.walnatsd-dead-letters"):
        assert await config_of(nats, what) is None
    await apply(tmp_path, nats, **DECLARED)
    changed = {"events": [{"name": "counts", "description": "Other."}], "actors": DECLARED["actors"]}
    assert (await apply(tmp_path, nats, "--dry-run", **changed))[1] == [
        "event counts: would be updated: description", "actor act of counts: nothing to do",
    ]  # fmt: skip
    manage = {"nats": {"servers": [nats.url], "manage": {"update": False}}}
    assert (await apply(tmp_path, nats, "--dry-run", **changed, **manage))[1] == [
        "event counts: not written: description: differs, and nats.manage.update is false",
        "actor act of counts: nothing to do",
    ]
    stream = await config_of(nats, "STREAM.INFO.counts")
    assert stream is not None
    assert stream["description"] == "Numbers."


async def test_what_would_discard_messages_is_written_only_with_force(nats, tmp_path) -> None:
    await apply(tmp_path, nats, **DECLARED)
    async with nats.jetstream() as jetstream:
        for number in range(10):
            await jetstream.publish("counts", b"%d" % number)
    smaller = DECLARED | {"events": [{"name": "counts", "limits": {"messages": 3, "age": "1h"}}]}
    code, out, err = await apply(tmp_path, nats, **smaller)
    assert (code, err) == (0, [])
    assert len(out) == 3
    assert out[0].startswith(
        "event counts: not written: limits.age: declared 3600s, the stream has none: it would discard"
    )
    assert out[1] == (
        "event counts: not written: limits.messages: declared 3, the stream has none: it would discard 7 stored messages; "
        "walnatsd apply --force writes it"
    )
    assert len(await stored(nats)) == 10
    dry = await apply(tmp_path, nats, "--force", "--dry-run", **smaller)
    assert dry[1][0] == "event counts: would be updated: limits.age, limits.messages"
    assert len(await stored(nats)) == 10
    assert (await apply(tmp_path, nats, "--force", **smaller))[1][
        0
    ] == "event counts: updated: limits.age, limits.messages"
    assert [payload for payload, _ in await stored(nats)] == [b"7", b"8", b"9"]


async def test_a_conflict_exits_with_1_and_the_rest_is_registered_all_the_same(nats, tmp_path) -> None:
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="limits")
    code, out, err = await apply(tmp_path, nats, events=[{"name": "counts"}, {"name": "other"}])
    assert (code, out) == (1, ["event other: created"])
    [error] = err
    assert error.startswith("event counts: error: the stream 'counts' has the retention 'limits'")


async def test_without_nats_it_waits_a_while_and_exits_with_1_and_says_what_it_waited_for(nats, tmp_path) -> None:
    await nats.stop()
    code, out, err = await apply(tmp_path, nats, "--timeout", "0.3", **DECLARED)
    assert (code, out) == (1, [])
    [error] = err
    assert error.startswith(f"error: waiting for NATS at {nats.url}: ")


async def test_it_finds_the_embedded_server_of_the_config(nats, tmp_path) -> None:
    embedded = {"nats": {"embedded": {"port": nats.port, "data_dir": "data"}}}
    assert (await apply(tmp_path, nats, **DECLARED, **embedded))[0] == 0
    assert await config_of(nats, "STREAM.INFO.counts") is not None


async def test_declarations_that_nats_does_not_accept_are_told_in_its_words(nats, tmp_path) -> None:
    code, _, err = await apply(tmp_path, nats, events=[{"name": "counts", "replicas": 3}])
    assert code == 1
    assert json.dumps(err).count("replicas > 1 not supported in non-clustered mode") == 1


CLOCKS: dict[str, Any] = {"events": DECLARED["events"], "clocks": [{"event": "counts", "every": "1h"}]}


async def test_it_registers_clocks_and_changes_what_was_declared_otherwise(nats, tmp_path) -> None:
    changed = CLOCKS | {"clocks": [{"event": "counts", "cron": "0 12 * * MON-FRI", "timezone": "Europe/Berlin"}]}
    words = "cron '0 12 * * MON-FRI' in Europe/Berlin"
    events = ["event counts: created", *["event counts: nothing to do"] * 4]
    for options, parts, expected in [
        ((), CLOCKS, "created"),
        ((), CLOCKS, "nothing to do"),
        (("--dry-run",), changed, f"would be updated: {words}"),
        ((), changed, f"updated: {words}"),
        ((), changed, "nothing to do"),
    ]:
        assert await apply(tmp_path, nats, *options, **parts) == (
            0,
            [events.pop(0), f"clock of counts: {expected}"],
            [],
        )
    _, header = await schedule(nats, "counts")
    assert (header["Nats-Schedule"], header["Nats-Schedule-Time-Zone"]) == ("0 0 12 * * 1,2,3,4,5", "Europe/Berlin")


async def test_a_dry_run_leaves_no_clock_whatever_is_there(nats, tmp_path) -> None:
    assert (await apply(tmp_path, nats, "--dry-run", **CLOCKS))[1][-1] == "clock of counts: would be created"
    await apply(tmp_path, nats)
    assert (await apply(tmp_path, nats, "--dry-run", **CLOCKS))[1][-1] == "clock of counts: would be created"
    assert await subjects(nats) == []


async def test_a_clock_of_another_service_is_left_to_it(nats, tmp_path) -> None:
    await apply(tmp_path, nats, **CLOCKS, service={"name": "theirs"})
    other = CLOCKS | {"clocks": [{"event": "counts", "every": "2h"}]}
    code, out, _ = await apply(tmp_path, nats, **other, service={"name": "ours"})
    words = "the service 'theirs' declares it as every 3600 in UTC, here it is every 7200 s"
    assert (code, out[-1]) == (0, f"clock of counts: not written: {words}")


@pytest.mark.parametrize("version", ["2.12.8", "2.10.26"])
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
async def test_a_server_that_is_too_old_for_clocks_is_an_error(
    version: str, options: tuple[str, ...], tmp_path
) -> None:
    async with nats_server(tmp_path / "nats", binary=binary_of(version)) as nats:
        await apply(tmp_path, nats)  # walnatsd's own streams
        code, _, errors = await apply(tmp_path, nats, *options, **CLOCKS)
    assert code == 1
    assert [line for line in errors if "clock of counts: error: clocks need nats-server 2.14 or newer" in line]
