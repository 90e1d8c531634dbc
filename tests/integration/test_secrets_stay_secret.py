"""Secrets of every kind, failures of every kind, and nothing of the secrets in log, metrics, answers, errors or reprs."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web

from support.access import bearer, metadata
from support.commands import walnatsd
from support.daemon import Process, config_text, process
from support.grpc_calls import refused, stubs
from support.nats_server import NatsServer, nats_server
from support.receiver import Received, Receiver
from support.receiver import receiver as another_receiver
from support.waiting import until
from walnatsd.config.load import load
from walnatsd.v1 import events_pb2

MARK = "hunter2"
"""Stands in every secret, as it is or in base64."""
SECRETS = {
    "emit": f"{MARK}-emit-token", "act": f"{MARK}-act-token", "admin": f"{MARK}-admin-token",
    "nats": f"{MARK}-nats-password", "authorization": f"Bearer {MARK}-of-the-actor", "key": f"{MARK}-api-key",
    "signing": "whsec_" + base64.b64encode(f"{MARK}-signing-the-webhooks".encode()).decode(),
    "hmac": f"{MARK}-hmac-key", "fernet": base64.urlsafe_b64encode(f"{MARK}-encrypting-the-payload"[:32].encode().ljust(32, b"!")).decode(),
}  # fmt: skip
NATS = {"authorization": {"user": "someone", "password": SECRETS["nats"]}}


def parts_of(secret: str) -> list[str]:
    """What would give a secret away: the mark, or where that can't be seen, the secret without its scheme."""
    return [MARK] if MARK in secret else [secret.removeprefix("whsec_")]


def given_away(text: str) -> list[str]:
    """The names of the secrets of which something stands in a text."""
    return [name for name, secret in SECRETS.items() if any(part in text for part in parts_of(secret))]


def from_file(name: str) -> dict[str, str]:
    return {"file": f"secrets/{name}"}


def config(nats: NatsServer, receiver: Receiver, **parts: Any) -> str:
    codecs = [{"hmac": {"keys": [from_file("hmac")]}}, {"fernet": {"keys": [from_file("fernet")]}}]
    headers = {"Authorization": from_file("authorization"), "X-Key": from_file("key")}
    webhook = {
        "url": receiver.url,
        "headers": headers,
        "signing_secrets": [from_file("signing")],
        "retry": {"delays": [0.1]},
    }
    given: dict[str, Any] = {
        "nats": {"user": "someone", "password": from_file("nats")},
        "auth": {"tokens": [{"token": from_file(scope), "scopes": [scope]} for scope in ("emit", "act", "admin")]},
        "events": [{"name": "counts", "codecs": codecs}, {"name": "plain"}, {"name": "many"}],
        "actors": [
            {"name": "coded", "event": "counts", **webhook},
            {"name": "open", "event": "plain", **webhook},
            {"name": "batched", "event": "many", "batch": {}, **webhook},
        ],
        "log": {"level": "debug"},
    }
    return config_text(nats.url, **(given | parts))


def write_secrets(folder: Path) -> None:
    (folder / "secrets").mkdir(exist_ok=True)
    for name, secret in SECRETS.items():
        (folder / "secrets" / name).write_text(secret)


async def chatty(received: Received) -> web.StreamResponse:
    """An error page that shows the whole request, as frameworks do while a service is being developed."""
    page = json.dumps(received.headers)
    if received.headers["walnats-event"] == "many":
        results = [
            {"sequence": item["walnatssequence"], "status": "reject", "reason": page}
            for item in json.loads(received.body)
        ]
        return web.json_response({"results": results})
    return web.Response(status=422 if received.attempt > 1 else 500, text="x" * 900 + page)


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path / "nats", options=NATS) as server:
        yield server


async def everything_told(daemon: Process) -> str:
    """What the addresses tell whoever may ask."""
    assert daemon.sidecar is not None
    told = []
    token = bearer(SECRETS["admin"])
    paths = ("events", "actors", "spool", "dead-letters", *(f"dead-letters/{number}" for number in range(1, 6)))
    for path in (*(f"/admin/v1/{path}" for path in paths), "/metrics", "/readyz", "/openapi.json"):
        async with daemon.sidecar.session.get(f"http://{daemon.sidecar.admin}{path}", headers=token) as response:
            told.append(f"{path} {response.status} {await response.text()} {dict(response.headers)}")
    return "\n".join(told)


async def dead_letters(daemon: Process) -> int:
    assert daemon.sidecar is not None
    url = f"http://{daemon.sidecar.admin}/admin/v1/dead-letters"
    async with daemon.sidecar.session.get(url, headers=bearer(SECRETS["admin"])) as response:
        return len((await response.json())["items"]) if response.status == 200 else -1


async def test_nothing_is_given_away_by_actors_that_fail_and_repeat_what_they_were_sent(
    nats, tmp_path, receiver
) -> None:
    write_secrets(tmp_path)
    receiver.answer = chatty
    async with process(tmp_path, config(nats, receiver)) as daemon:
        assert daemon.sidecar is not None
        for event in ("counts", "plain", "many"):
            status, _ = await daemon.sidecar.try_emit(event, "1", headers=bearer(SECRETS["emit"]))
            assert status == 201
        await receiver.wait_for(5)
        assert receiver.received[0].headers["x-key"] == SECRETS["key"]
        assert receiver.received[0].headers["authorization"] == SECRETS["authorization"]

        async def are_buried() -> bool:
            return await dead_letters(daemon) == 3

        await until(are_buried)
        told = await everything_told(daemon)
        assert told.count("***") >= 3  # the error pages are there, without the secrets
        assert given_away(told) == []
        await daemon.end()
    assert daemon.said("***")
    assert given_away(json.dumps(daemon.lines)) == []


async def test_nothing_is_given_away_by_outages_and_messages_that_can_not_be_decoded(nats, tmp_path, receiver) -> None:
    write_secrets(tmp_path)
    async with process(tmp_path, config(nats, receiver)) as daemon:
        assert daemon.sidecar is not None
        await receiver.down()
        assert (await daemon.sidecar.try_emit("plain", "1", headers=bearer(SECRETS["emit"])))[0] == 201
        await until(lambda: daemon.said("can't connect"))
        async with nats.jetstream(user="someone", password=SECRETS["nats"]) as jetstream:
            await jetstream.publish("counts", b"never encoded")

        async def is_buried() -> bool:
            return await dead_letters(daemon) == 1

        await until(is_buried)
        nats.reload({"authorization": {"user": "someone", "password": "another"}})
        await until(lambda: daemon.said("it refuses the credentials"))
        told = await everything_told(daemon)
        assert given_away(told) == []
        await daemon.end()
    assert given_away(json.dumps(daemon.lines)) == []


async def test_nothing_of_a_refused_token_is_given_away(nats, tmp_path, receiver) -> None:
    """Neither of a valid one that lacks a scope, nor of one that is wrong: it may be right elsewhere."""
    write_secrets(tmp_path)
    async with process(tmp_path, config(nats, receiver)) as daemon:
        assert daemon.sidecar is not None
        told = []
        for token in (SECRETS["act"], f"{MARK}-mistyped", f"{MARK} of two words"):
            told.append(str(await daemon.sidecar.try_emit("plain", "1", headers=bearer(token))))
            async with daemon.sidecar.session.get(
                f"http://{daemon.sidecar.admin}/metrics", headers=bearer(token)
            ) as response:
                told.append(f"{response.status} {await response.text()} {dict(response.headers)}")
            async with stubs(daemon.sidecar.grpc) as stub:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub.events.Emit(events_pb2.EmitRequest(event="plain"), metadata=metadata(token))
                told.append(f"{refused(error.value)} {error.value.initial_metadata()}")
            done = await walnatsd("emit", "plain", "1", "--http", daemon.sidecar.http, WALNATSD_TOKEN=token)
            assert done.exit_code in (1, 2)
            told.append(f"{done.out.decode()} {done.err}")
        assert len(told) == 12
        assert given_away("\n".join(told)) == []
        await daemon.end()
    assert given_away(json.dumps(daemon.lines)) == []


BROKEN = {
    "emit": f"{MARK} of two words", "admin": f"{MARK}-emit-token", "signing": f"{MARK}-of-no-kind", "fernet": f"{MARK}-too-short",
    "authorization": f"{MARK}\nof two lines", "key": f"{MARK}\x00",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_nothing_of_a_secret_that_can_not_be_used_is_given_away(nats, tmp_path, receiver, name) -> None:
    write_secrets(tmp_path)
    async with process(tmp_path, config(nats, receiver)) as daemon:
        assert daemon.sidecar is not None
        (tmp_path / "secrets" / name).write_text(BROKEN[name])
        url = f"http://{daemon.sidecar.admin}/admin/v1/reload"
        async with daemon.sidecar.session.post(url, headers=bearer(SECRETS["admin"])) as response:
            told = await response.text()
            assert response.status == 400, told
        done = await walnatsd("check", "-c", str(daemon.file))
        assert done.exit_code == 2
        assert given_away(f"{told} {done.out.decode()} {done.err}") == []
        await daemon.end()
    assert given_away(json.dumps(daemon.lines)) == []


async def test_nothing_is_given_away_by_check_and_by_what_is_printed_of_a_config(nats, tmp_path) -> None:
    write_secrets(tmp_path)
    async with another_receiver() as receiver:
        file = tmp_path / "walnatsd.yaml"
        file.write_text(config(nats, receiver))
        for more in ((), ("--json",), ("--against", str(file))):
            done = await walnatsd("check", "-c", str(file), *more)
            assert done.exit_code == 0, done.err
            assert given_away(f"{done.out.decode()} {done.err}") == []
        loaded = load(str(file), {})
    assert loaded.secrets.reveal(loaded.config.auth.tokens[0].token) == SECRETS["emit"]
    assert given_away(f"{loaded!r} {loaded.secrets!r} {loaded.config!r} {loaded.config.model_dump_json()}") == []
