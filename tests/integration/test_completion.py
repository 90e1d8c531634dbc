"""Completion in a real bash, with the names that a running daemon knows; and what discarding shows before it asks."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from support.buried import bury, config, refuse
from support.commands import walnatsd
from support.daemon import config_text, running

BASH = """
eval "$(_WALNATSD_COMPLETE=bash_source walnatsd)"
COMP_WORDS=({words}); COMP_CWORD={last}
{function} walnatsd
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


async def completed(*words: str) -> list[str]:
    """What Tab offers after these words, of which the last one is begun."""
    line = ["walnatsd", *words]
    script = BASH.format(
        words=" ".join(f"'{word}'" for word in line), last=len(line) - 1, function="_walnatsd_completion"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "--norc", "-c", script,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | {"PATH": path},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().split()


async def test_bash_completes_commands_and_options() -> None:
    assert await completed("dead") == ["dead-letters"]
    assert await completed("dead-letters", "re") == ["replay"]
    assert "--json" in await completed("status", "--")


async def test_bash_completes_names_of_events_and_actors_from_the_daemon(nats) -> None:
    actor = {"name": "print", "event": "counts", "url": "http://127.0.0.1:1/"}
    text = config_text(nats.url, events=[{"name": "counts"}], actors=[actor])
    async with running(text) as sidecar:
        admin = f"--admin={sidecar.admin}"
        assert await completed("events", "delete", admin, "cou") == ["counts"]
        assert await completed("actors", "pause", admin, "counts", "pr") == ["print"]
        assert await completed("dead-letters", "list", admin, "--actor", "") == ["print"]


async def test_without_a_daemon_there_are_no_names_and_no_error() -> None:
    assert await completed("events", "delete", "--admin=127.0.0.1:1", "c") == []


@pytest.mark.parametrize("answer", [b"n\n", b"y\n"])
async def test_discarding_shows_what_it_would_erase_and_asks(nats, receiver, answer) -> None:
    receiver.answer = refuse
    async with running(config(nats, receiver)) as sidecar:
        await bury(sidecar, ["1"])
        admin = ("--admin", sidecar.admin)
        asked = await walnatsd("dead-letters", "discard", "1", *admin, stdin=answer)
        assert b"print of counts" in asked.out
        assert b"no such parcel" in asked.out
        shown = await walnatsd("dead-letters", "show", "1", *admin)
        assert (asked.exit_code, shown.exit_code) == ((1, 0) if answer == b"n\n" else (0, 1))


async def test_what_is_not_there_is_told_before_anything_is_asked(nats, receiver) -> None:
    async with running(config(nats, receiver)) as sidecar:
        asked = await walnatsd("dead-letters", "discard", "99", "--admin", sidecar.admin)
    assert asked.exit_code == 1
    assert "there is no dead letter 99" in asked.err
    assert b"Erase" not in asked.out
