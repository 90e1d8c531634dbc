"""The command line: what each command says, and its exit code."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from support.daemon import config_text, process, running
from support.nats_server import NatsServer
from support.receiver import Receiver
from support.streams import keep_messages, stored
from walnatsd import __version__
from walnatsd.cli import main

EXAMPLE = Path(__file__).parents[1] / "unit" / "full_example.yaml"


def run_in_process(*arguments: str, stdin: bytes = b"") -> Result:
    """A command that needs nothing of the process but its output."""
    return CliRunner().invoke(main, arguments, input=stdin)


async def emit(*arguments: str, stdin: bytes = b"") -> Result:
    return await asyncio.to_thread(run_in_process, "emit", *arguments, stdin=stdin)


async def walnatsd(*arguments: str, cwd: Path, **environ: str) -> tuple[int, str, str]:
    """A command in a process of its own: exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", *arguments, cwd=cwd, env=os.environ | environ,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# ---- version, help, schema, check


async def test_the_version(tmp_path) -> None:
    assert await walnatsd("--version", cwd=tmp_path) == (0, f"walnatsd, version {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "-h"], ["check", "-h"], ["apply", "-h"], ["schema", "-h"], ["emit", "-h"]]
)
def test_every_command_has_help(arguments) -> None:
    result = run_in_process(*arguments)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


def test_an_unknown_command_or_option_exits_with_2() -> None:
    assert run_in_process("nonsense").exit_code == 2
    assert run_in_process("check", "--nonsense").exit_code == 2


def test_the_schema_is_json_schema_and_accepts_the_example_of_the_contract() -> None:
    result = run_in_process("schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(EXAMPLE.read_text()))


def test_a_good_file_is_fine(tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text("events: [{name: e}]\nactors: [{name: a, event: e, url: 'http://h/'}]")
    result = run_in_process("check", "-c", str(file))
    assert (result.exit_code, result.stdout) == (0, f"{file} is fine: 1 event, 1 actor\n")


async def test_a_warning_is_told_and_is_no_error(tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text("")
    code, out, err = await walnatsd("check", cwd=tmp_path, WALNATSD_NONSENSE="1")
    assert code == 0
    assert "is fine: 0 events, 0 actors" in out
    assert err == "warning: the environment variable WALNATSD_NONSENSE names no setting and is ignored\n"


BAD_CONFIG = "max_jobs: 0\nevents: [{name: a b}]\nnats: {token: hunter2, servers: ['nats://u:hunter2@h']}\n"


@pytest.mark.parametrize("command", ["check", "run", "apply"])
async def test_a_bad_file_exits_with_2_and_all_its_errors(tmp_path, command) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD_CONFIG)
    code, out, err = await walnatsd(command, "-c", str(file), cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"error: {file} can't be used:"
    assert [line.split(":")[0].strip() for line in err.splitlines()[1:]] == [
        "max_jobs", "events[0].name", "nats.servers[0]", "nats.token",
    ]  # fmt: skip
    assert "hunter2" not in err


async def test_a_file_that_is_not_there_exits_with_2(tmp_path) -> None:
    code, _, err = await walnatsd("check", "-c", "none.yaml", cwd=tmp_path)
    assert code == 2
    assert "none.yaml can't be used" in err
    assert "No such file or directory" in err


# ---- run


async def test_run_ends_with_0_after_sigterm_and_sigint(nats, tmp_path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with process(tmp_path / number.name, config_text(nats.url)) as daemon:
            assert await daemon.end(number) == 0


async def test_run_exits_with_1_and_says_which_address_is_taken(nats, tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        for section in ("grpc", "http", "admin"):
            file = tmp_path / f"{section}.yaml"
            file.write_text(config_text(nats.url, **{section: {"listen": listen}}))
            code, _, err = await walnatsd("run", "-c", str(file), cwd=tmp_path)
            assert code == 1
            assert f"can't listen on {listen} ({section}.listen)" in err
            assert "Traceback" not in err


async def test_the_log_never_holds_a_secret(nats, tmp_path, receiver: Receiver) -> None:
    actor = {"name": "act", "event": "counts", "url": receiver.url, "headers": {"Authorization": {"file": "secret"}}}
    text = config_text(
        nats.url, events=[{"name": "counts"}], actors=[actor], log={"level": "debug"},
        nats={"servers": [nats.url], "user": "me", "password": {"file": "secret"}},
    )  # fmt: skip
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "secret").write_text("hunter2")
    async with process(tmp_path / "d", text) as daemon:
        assert daemon.sidecar is not None
        await daemon.sidecar.emit("counts", "1")
        [received] = await receiver.wait_for(1)
        assert received.headers["authorization"] == "hunter2"
        await receiver.down()
        await daemon.sidecar.emit("counts", "2")
        exposed = json.dumps(await daemon.sidecar.metrics()) + json.dumps(await daemon.sidecar.readiness())
        await nats.stop()
        await daemon.end()
    assert daemon.said("connected to NATS")
    assert not daemon.said("hunter2")
    assert "hunter2" not in exposed


async def test_credentials_in_an_address_from_the_environment_are_not_logged(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(config_text(nats.url))
    servers = f"nats://me:hunter2@127.0.0.1:{nats.port},me:hunter2@127.0.0.1:1"
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "walnatsd", "run", cwd=tmp_path, stderr=subprocess.PIPE,
        env=os.environ | {"WALNATSD_NATS__SERVERS": servers, "WALNATSD_LOG__LEVEL": "debug"},
    )  # fmt: skip
    assert daemon.stderr is not None
    lines = []
    async for line in daemon.stderr:
        lines.append(line.decode())
        if '"ready"' in lines[-1]:
            daemon.terminate()
    assert await daemon.wait() == 0
    assert any("connected to NATS" in line for line in lines)
    assert "hunter2" not in "".join(lines)


# ---- emit


async def test_emit_stores_the_argument_or_standard_input(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        results = [
            await emit("--http", sidecar.http, "counts", "7", "--uid", "u1"),
            await emit("--http", f"http://{sidecar.http}/", "counts", "-", "--uid", "u2", stdin=b"from\nstdin\xff"),
            await emit("--http", sidecar.http, "counts", "--uid", "u3", "--content-type", "text/plain", stdin=b""),
            await emit("--http", sidecar.http, "counts", "again", "--uid", "u1"),
        ]
    assert [result.exit_code for result in results] == [0, 0, 0, 0]
    assert [result.stdout for result in results] == [
        "stored as counts/1  uid u1\n", "stored as counts/2  uid u2\n", "stored as counts/3  uid u3\n",
        "duplicate of counts/1  uid u1\n",
    ]  # fmt: skip
    assert await stored(nats) == [
        (b"7", {"Nats-Msg-Id": "u1", "Content-Type": "application/json"}),
        (b"from\nstdin\xff", {"Nats-Msg-Id": "u2", "Content-Type": "application/json"}),
        (b"", {"Nats-Msg-Id": "u3", "Content-Type": "text/plain"}),
    ]


async def test_emit_sends_headers_and_answers_in_json(nats, tmp_path) -> None:
    text = config_text(nats.url, events=[{"name": "counts"}], http={"listen": f"unix:{tmp_path}/http.sock"})
    async with running(text) as sidecar:
        await keep_messages(nats)
        result = await emit(
            "--http", sidecar.http, "--json", "counts", "7", "--trace-id", "t", "-H", "X-Mine=a=b ü", "-H", "ce-id=1",
            "-H", "ce-source=/s", "-H", "content-type=text/csv", "-H", "traceparent=00-aa-bb-01",
        )  # fmt: skip
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "uid": "/s 1", "stream": "counts", "sequence": 1, "duplicate": False, "scheduled": False, "spooled": False,
    }  # fmt: skip
    [(_, headers)] = await stored(nats)
    assert headers == {
        "Nats-Msg-Id": "/s 1", "Walnats-Trace": "t", "X-Mine": "a=b ü", "ce-id": "1", "ce-source": "/s",
        "Content-Type": "text/csv", "ce-datacontenttype": "text/csv", "traceparent": "00-aa-bb-01",
    }  # fmt: skip


async def test_a_refused_emit_exits_with_1_and_says_why(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}], emit={"timeout": 0.2})) as sidecar:
        unknown = await emit("--http", sidecar.http, "nobody", "7")
        later = await emit("--http", sidecar.http, "counts", "7", "--delay", "5 years")
        async with nats.frozen():
            hanging = await emit("--http", sidecar.http, "counts", "7", "--uid", "u")
    assert [result.exit_code for result in (unknown, later, hanging)] == [1, 1, 1]
    assert [result.stdout for result in (unknown, later, hanging)] == ["", "", ""]
    assert unknown.stderr.startswith("error: the event 'nobody' is not declared; add it to events in the config file")
    assert "write a duration as seconds or like 250ms" in later.stderr
    assert "not confirmed by NATS within 0.2 s" in hanging.stderr
    assert hanging.stderr.endswith("It may have been stored: retry with --uid u\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-H", "nonsense"], "write a header as KEY=VALUE"),
        (["-H", "=x"], "write a header as KEY=VALUE"),
        (["-H", "A=1", "-H", "A=2"], "A is set twice"),
        (["-H", "A=a\r\nNats-Rollup: all"], "the value of A holds a control character"),
        (["-H", "A\r\nB=1"], "is no name of a header"),
        (["-H", "bad name=1"], "'bad name' is no name of a header"),
        (["-H", "zähler=1"], "'zähler' is no name of a header"),
    ],
)
async def test_a_header_that_can_not_be_sent_is_told_and_nothing_is_stored(nats, arguments, words) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        result = await emit("--http", sidecar.http, "counts", "7", *arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert await stored(nats) == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "unix:/nowhere/http.sock", "nonsense:port", "https://127.0.0.1:1", "no such host:80", ""]
)
async def test_without_a_daemon_the_error_says_what_to_do(address) -> None:
    result = await emit("--http", address, "counts", "7")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: no walnatsd answers at {address} (")
    assert result.stderr.endswith("start it with: walnatsd run, or name its address with --http\n")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"hello", b"<html>", b'{"uid": "u"}'])
@pytest.mark.parametrize("status", [200, 404])
async def test_what_is_no_walnatsd_is_told_so(receiver: Receiver, body, status) -> None:
    from aiohttp import web

    async def answer(_received: Any) -> web.StreamResponse:
        return web.Response(status=status, body=body)

    receiver.answer = answer
    result = await emit("--http", f"127.0.0.1:{receiver.port}", "counts", "7")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "walnatsd" in result.stderr
    assert "--http" in result.stderr


# ---- apply: see test_cli_apply.py


def test_no_command_is_slow_to_start_because_of_another(nats: NatsServer) -> None:
    code = "import sys, walnatsd.cli; sys.exit(any(m in sys.modules for m in ('grpc', 'nats', 'aiohttp', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
