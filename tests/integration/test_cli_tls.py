"""The commands that talk to a daemon over https, with an authority of its own and with a client certificate."""

from pathlib import Path

import pytest

from support.certificates import Authority
from support.commands import walnatsd
from support.daemon import config_text, running

COMMANDS = [
    (["emit", "counts", "1"], "--http"),
    (["request", "counts", "1"], "--http"),
    (["scheduled", "list", "counts"], "--http"),
    (["tail", "counts"], "--http"),
    (["status"], "--admin"),
    (["dead-letters", "list"], "--admin"),
    (["spool", "status"], "--admin"),
]
every_command = pytest.mark.parametrize(("command", "option"), COMMANDS, ids=lambda value: str(value[0]))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def text_for(nats, **tls: str) -> str:
    return config_text(nats.url, events=[{"name": "counts"}], http={"tls": tls}, admin={"tls": tls})


async def test_commands_go_over_https_and_trust_the_named_authority(nats, authority) -> None:
    async with running(text_for(nats, **authority.pair("server").options()), ready=False) as sidecar:
        http, admin = f"https://{sidecar.http}", f"https://{sidecar.admin}/"
        done = await walnatsd("emit", "counts", "1", "--http", http, "--ca-file", authority.ca)
        assert (done.exit_code, done.err) == (0, "")
        assert b"stored as counts/1" in done.out
        done = await walnatsd("status", "--admin", admin, WALNATSD_CA_FILE=authority.ca)
        assert (done.exit_code, done.err) == (0, "")
        assert b"counts" in done.out


async def test_a_client_certificate_is_shown(nats, authority, tmp_path) -> None:
    clients = Authority(tmp_path, "clients")
    ours = clients.pair("ours")
    options = authority.pair("server").options(client_ca_file=clients.ca)
    async with running(text_for(nats, **options), ready=False) as sidecar:
        emit = ("emit", "counts", "1", "--http", f"https://{sidecar.http}", "--ca-file", authority.ca)
        done = await walnatsd(*emit, "--cert-file", ours.cert, "--key-file", ours.key)
        assert (done.exit_code, done.err) == (0, "")
        done = await walnatsd(*emit, WALNATSD_CERT_FILE=ours.cert, WALNATSD_KEY_FILE=ours.key)
        assert (done.exit_code, done.err) == (0, "")
        done = await walnatsd(*emit)
        assert (done.exit_code, done.out) == (1, b"")
        assert f"no TLS with https://{sidecar.http} (it hung up; it may want a client certificate)" in done.err
        assert "--cert-file" in done.err


@every_command
async def test_what_is_not_trusted_is_told_with_the_option_to_look_at(nats, authority, command, option) -> None:
    async with running(text_for(nats, **authority.pair("server").options()), ready=False) as sidecar:
        address = sidecar.http if option == "--http" else sidecar.admin
        done = await walnatsd(*command, option, f"https://{address}")
        assert (done.exit_code, done.out) == (1, b"")
        assert f"no TLS with https://{address} (its certificate is not trusted: " in done.err
        assert "see --ca-file" in done.err


async def test_who_forgets_or_invents_tls_is_told_so(nats, authority) -> None:
    async with running(text_for(nats, **authority.pair("server").options()), ready=False) as sidecar:
        done = await walnatsd("status", "--admin", sidecar.admin)
        assert done.exit_code == 1
        assert "if it has TLS, write https://" in done.err
    async with running(config_text(nats.url), ready=False) as sidecar:
        done = await walnatsd("status", "--admin", f"https://{sidecar.admin}", "--ca-file", authority.ca)
        assert done.exit_code == 1
        assert f"no TLS with https://{sidecar.admin} (it speaks without)" in done.err


async def test_files_that_would_not_be_used_or_can_not_be_are_told(authority, tmp_path) -> None:
    pair, other = authority.pair("one"), authority.pair("other")
    done = await walnatsd("status", "--ca-file", authority.ca)
    assert done.exit_code == 2
    assert "--ca-file needs an address that begins with https://" in done.err
    done = await walnatsd("status", "--admin", "https://127.0.0.1:1", "--key-file", pair.key)
    assert done.exit_code == 2
    assert "--key-file needs --cert-file" in done.err
    done = await walnatsd("status", "--admin", "https://127.0.0.1:1", "--cert-file", pair.cert, "--key-file", other.key)
    assert done.exit_code == 1
    assert "the key belongs to another certificate" in done.err
    done = await walnatsd("status", "--admin", "https://127.0.0.1:1", WALNATSD_CA_FILE=str(tmp_path / "none"))
    assert done.exit_code == 1
    assert f"can't read {tmp_path / 'none'}: No such file or directory" in done.err


async def test_the_variables_of_callers_are_no_options_of_the_daemon(authority, tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text("events: []")
    done = await walnatsd("check", "-c", str(tmp_path / "walnatsd.yaml"), WALNATSD_CA_FILE=authority.ca)
    assert (done.exit_code, done.err) == (0, "")
