"""The commands that talk to a daemon send a token, from a file or from the environment, and say what to do without one."""

from collections.abc import AsyncIterator

import pytest

from support.access import guarded_text, token_of
from support.commands import walnatsd
from support.daemon import Sidecar, running


@pytest.fixture
async def sidecar(nats, tmp_path) -> AsyncIterator[Sidecar]:
    async with running(guarded_text(nats.url, tmp_path), file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        yield sidecar


async def test_emit_and_status_send_the_token_of_a_file(sidecar, tmp_path) -> None:
    done = await walnatsd("emit", "counts", "1", "--http", sidecar.http, "--token-file", str(tmp_path / "emit"))
    assert (done.exit_code, done.err) == (0, "")
    done = await walnatsd("status", "--admin", sidecar.admin, "--token-file", str(tmp_path / "admin"))
    assert (done.exit_code, done.err) == (0, "")
    assert b"counts" in done.out


async def test_the_environment_holds_a_token_and_the_file_wins(sidecar, tmp_path) -> None:
    emit = ("emit", "counts", "1", "--http", sidecar.http)
    assert (await walnatsd(*emit, WALNATSD_TOKEN=token_of("emit"))).exit_code == 0
    done = await walnatsd(*emit, "--token-file", str(tmp_path / "emit"), WALNATSD_TOKEN=token_of("admin"))
    assert done.exit_code == 0
    done = await walnatsd("scheduled", "list", "counts", "--http", sidecar.http, WALNATSD_TOKEN=token_of("emit"))
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("command", "option", "scope"),
    [
        (["emit", "counts", "1"], "--http", "emit"),
        (["request", "counts", "1"], "--http", "emit"),
        (["scheduled", "list", "counts"], "--http", "emit"),
        (["tail", "counts"], "--http", "act"),
        (["status"], "--admin", "admin"),
        (["actors", "resume", "counts", "print"], "--admin", "admin"),
        (["dead-letters", "list"], "--admin", "admin"),
        (["spool", "status"], "--admin", "admin"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
async def test_a_refusal_says_which_scope_and_how_to_give_a_token(sidecar, command, option, scope) -> None:
    address = sidecar.http if option == "--http" else sidecar.admin
    other = "emit" if scope != "emit" else "act"
    for token, words in (
        ("", "needs a token"),
        ("mistaken", "not one of"),
        (token_of(other), f"lacks the scope {scope};"),
    ):
        done = await walnatsd(*command, option, address, WALNATSD_TOKEN=token)
        assert done.exit_code == 1
        assert done.out == b""
        assert words in done.err
        assert done.err.rstrip().endswith("Name a file that holds it with --token-file, or set WALNATSD_TOKEN")
        assert "Traceback" not in done.err
        assert not token or token not in done.err


async def test_a_token_file_that_holds_none_is_told(tmp_path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "odd").write_text("se same")
    for file, words in (("nowhere", "does not exist"), ("empty", "is empty"), ("odd", "holds is no token")):
        done = await walnatsd("status", "--token-file", str(tmp_path / file))
        assert done.exit_code == 2
        assert words in done.err
        assert "se same" not in done.err
    done = await walnatsd("status", WALNATSD_TOKEN="se same")
    assert (done.exit_code, "se same" in done.err) == (2, False)


async def test_the_callers_token_is_no_unknown_setting_of_the_daemon(tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text("service: {name: s}")
    done = await walnatsd("check", "-c", str(tmp_path / "walnatsd.yaml"), WALNATSD_TOKEN="sesame")
    assert (done.exit_code, done.err) == (0, "")
