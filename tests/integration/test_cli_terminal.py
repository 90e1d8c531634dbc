"""The command line on a terminal: bars that show how far it is. Elsewhere, what a program can read."""

import asyncio
import json
import re

from click.testing import CliRunner

from support.admin import actor_status
from support.buried import bury, config, letters, refuse
from support.commands import walnatsd
from support.daemon import config_text, running
from support.receiver import answers
from support.screens import on_terminal
from walnatsd.cli import main, names

OF_PRINT = ("--event", "counts", "--actor", "print")


def drawn(text: str, label: str) -> list[tuple[int, int]]:
    """How far the bar was each time that it was drawn."""
    return [(int(done), int(of)) for done, of in re.findall(rf"{label}  \[[#-]+\]  (\d+)/(\d+)", text)]


async def test_replaying_all_of_an_actor_draws_a_bar_and_programs_get_json_alone(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, [str(number) for number in range(250)])
        assert (await actor_status(sidecar, "print"))["dead_letters"] == 250
        receiver.answer = answers()
        replay = ("dead-letters", "replay", *OF_PRINT, "--admin", sidecar.admin)
        shown = await on_terminal(*replay, "--limit", "150")
        assert drawn(shown.terminal, "replaying") == [(0, 150), (100, 150), (150, 150)]
        assert shown.terminal.endswith("replayed 150\r\n")
        assert "so far" not in shown.terminal
        shown = await on_terminal(*replay, "--json", out=False)
        assert json.loads(shown.out) == {"replayed": 100, "failed": 0, "failures": []}
        assert drawn(shown.terminal, "replaying") == [(0, 100), (100, 100)]
        assert await letters(sidecar) == []


async def test_several_are_discarded_with_a_bar_and_a_single_one_or_a_pipe_has_none(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "123456")
        discard, admin = ("dead-letters", "discard", "--yes"), ("--admin", sidecar.admin)
        shown = await on_terminal(*discard, "1", "2", "3", *admin)
        assert drawn(shown.terminal, "discarding") == [(0, 3), (1, 3), (2, 3), (3, 3)]
        assert shown.terminal.endswith("discarded 3\r\n")
        assert (await on_terminal(*discard, "4", *admin)).terminal == "discarded 1\r\n"
        done = await walnatsd(*discard, "5", "6", *admin)
        assert (done.out, done.err) == (b"discarded 2\n", "")


async def test_of_several_the_others_are_done_where_one_is_not_there(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "1234")
        admin = ("--admin", sidecar.admin)
        done = await walnatsd("dead-letters", "discard", "1", "99", "2", "--yes", *admin)
        assert (done.exit_code, done.out, done.err) == (
            1, b"discarded 2, 1 failed\n", "99: there is no dead letter 99\n",
        )  # fmt: skip
        done = await walnatsd("dead-letters", "replay", "99", "3", "--json", *admin)
        failures = [{"sequence": 99, "detail": "there is no dead letter 99"}]
        assert (done.exit_code, json.loads(done.out)) == (1, {"replayed": 1, "failed": 1, "failures": failures})
        done = await walnatsd("dead-letters", "discard", "99", "--yes", *admin)
        assert (done.exit_code, done.out, done.err) == (1, b"", "error: there is no dead letter 99\n")


async def test_what_all_would_meet_is_said_once_and_the_rest_is_not_tried(nats, receiver, tmp_path) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "1234")
        discard = ("dead-letters", "discard", "--yes", "--admin", sidecar.admin)
        await nats.kill()
        done = await walnatsd(*discard, "1", "2")
        assert (done.exit_code, done.out) == (1, b"")
        assert len(done.err.splitlines()) == 1
        assert done.err.startswith("error: ")
        done = await walnatsd(*discard[:-1], "127.0.0.1:1", "1", "2")
        assert (done.exit_code, done.out) == (1, b"")
        assert "no walnatsd answers at 127.0.0.1:1" in done.err


async def test_each_command_that_does_something_tells_it_in_json_and_asks_on_standard_error(nats, receiver) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, "12")

        async def told(*arguments: str, stdin: bytes = b"") -> object:
            done = await walnatsd(*arguments, "--json", "--admin", sidecar.admin, stdin=stdin)
            assert done.exit_code == 0, done
            return json.loads(done.out)

        paused = {"paused": True, "until": None, "everywhere": True}
        assert await told("actors", "pause", "counts", "print") == paused
        assert await told("actors", "resume", "counts", "print") == paused | {"paused": False}
        discarded = {"discarded": 1, "failed": 0, "failures": []}
        assert await told("dead-letters", "discard", "1", stdin=b"y\n") == discarded
        assert await told("dead-letters", "discard", "2", "--yes") == discarded
    async with running(config_text(nats.url)) as sidecar:
        gone = {"event": "counts", "actor": "print"}
        assert await told("actors", "delete", "counts", "print", stdin=b"y\n") == {"deleted": gone}
        assert await told("events", "delete", "counts", stdin=b"counts\n") == {"deleted": {"event": "counts"}}


async def test_a_wrong_name_gets_the_name_that_may_be_meant(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        admin = ("--admin", sidecar.admin)
        for arguments, meant in (
            (("actors", "pause", "counts", "pirnt"), "Did you mean 'print'?"),
            (("actors", "pause", "cuonts", "print"), "Did you mean 'counts'?"),
            (("actors", "resume", "counts", "prin"), "Did you mean 'print'?"),
            (("events", "delete", "count", "--yes"), "Did you mean 'counts'?"),
            (("dead-letters", "replay", "--event", "counts", "--actor", "prints"), "Did you mean 'print'?"),
        ):
            done = await walnatsd(*arguments, *admin)
            assert (done.exit_code, done.out) == (1, b"")
            assert done.err.rstrip().endswith(meant), done.err
        done = await walnatsd("actors", "pause", "counts", "zzz", *admin)
        assert "Did you mean" not in done.err
        assert (await walnatsd("stats")).err.endswith("Error: No such command 'stats'. Did you mean 'status'?\n")


BY_HTTP = (("emit", "count", "1"), ("request", "count", "1"), ("tail", "count"), ("scheduled", "list", "count"))


async def test_at_the_default_addresses_commands_that_emit_and_watch_name_the_event_that_may_be_meant(
    nats, monkeypatch
) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        monkeypatch.setattr(names, "DEFAULT_HTTP", sidecar.http)
        monkeypatch.setattr(names, "DEFAULT_ADMIN", sidecar.admin)
        for command in BY_HTTP:
            result = await asyncio.to_thread(CliRunner().invoke, main, [*command, "--http", sidecar.http])
            assert result.exit_code == 1
            assert "Did you mean 'counts'?" in result.stderr


async def test_elsewhere_they_do_not_guess_whose_names_to_ask_for(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        for command in BY_HTTP:
            done = await walnatsd(*command, "--http", sidecar.http)
            assert done.exit_code == 1
            assert "the event 'count' is not declared" in done.err
            assert "Did you mean" not in done.err
