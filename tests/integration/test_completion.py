"""Completion in real shells, with the names that a running daemon knows; and what discarding shows before it asks."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.buried import bury, config, refuse
from support.commands import walnatsd
from support.daemon import Sidecar, config_text, running
from support.screens import shell

PAGE = Path(__file__).parents[2] / "docs" / "operating" / "commands.md"
BASH = """
{source}
COMP_WORDS=({words}); COMP_CWORD={last}
{function} walnatsd
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
async def sidecar(nats) -> AsyncIterator[Sidecar]:
    actor = {"name": "print", "event": "counts", "url": "http://127.0.0.1:1/"}
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=[actor])) as sidecar:
        yield sidecar


async def completed(*words: str) -> list[str]:
    """What Tab offers after these words, of which the last one is begun."""
    line = ["walnatsd", *words]
    script = BASH.format(
        source=line_of_page("bash"),
        words=" ".join(f"'{word}'" for word in line),
        last=len(line) - 1,
        function="_walnatsd_completion",
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


async def test_bash_completes_names_of_events_and_actors_from_the_daemon(sidecar) -> None:
    admin = f"--admin={sidecar.admin}"
    assert await completed("events", "delete", admin, "cou") == ["counts"]
    assert await completed("actors", "pause", admin, "counts", "pr") == ["print"]
    assert await completed("dead-letters", "list", admin, "--actor", "") == ["print"]


async def test_without_a_daemon_there_are_no_names_and_no_error() -> None:
    assert await completed("events", "delete", "--admin=127.0.0.1:1", "c") == []


@pytest.mark.needs_program("zsh")
async def test_zsh_completes_commands_options_and_names(sidecar, tmp_path) -> None:
    (tmp_path / ".zshrc").write_text(f"PS1='> '; autoload -Uz compinit; compinit -u\n{line_of_page('zsh')}\n")
    admin = f"--admin={sidecar.admin}"
    async with shell(["zsh", "-i"], tmp_path) as screen:
        for begun, whole in (
            ("walnatsd dead", "walnatsd dead-letters "),
            ("walnatsd status --js", "walnatsd status --json "),
            (f"walnatsd events delete {admin} cou", f"walnatsd events delete {admin} counts "),
            (f"walnatsd actors pause {admin} counts pr", f"walnatsd actors pause {admin} counts print "),
        ):
            await screen.shows("> ")
            screen.type(f"{begun}\t")
            await screen.shows(whole)
            screen.text = ""
            screen.type("\x15\n")  # forget the line


@pytest.mark.needs_program("fish")
async def test_fish_completes_commands_options_and_names(sidecar, tmp_path) -> None:
    folder = tmp_path / ".config" / "fish" / "completions"
    folder.mkdir(parents=True)
    (folder / "walnatsd.fish").write_text(line_of_page("fish"))
    admin = f"--admin={sidecar.admin}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for begun, whole in (
        ("walnatsd dead", "dead-letters"),
        ("walnatsd status --js", "--json"),
        (f"walnatsd events delete {admin} cou", "counts"),
        (f"walnatsd actors pause {admin} counts pr", "print"),
    ):
        process = await asyncio.create_subprocess_exec(
            "fish", "-c", f'complete -C "{begun}"', stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(tmp_path), "PATH": path, "TERM": "xterm"},
        )  # fmt: skip
        out, err = await process.communicate()
        assert [line.split("\t")[0] for line in out.decode().splitlines()] == [whole], err.decode()


def line_of_page(shell: str) -> str:
    """What docs/operating/commands.md says to write into the start-up file of a shell."""
    [line] = [line for line in PAGE.read_text().splitlines() if f"={shell}_source" in line]
    return line


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
