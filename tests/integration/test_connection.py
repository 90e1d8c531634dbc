"""NATS comes late, goes, hangs and comes back; streams and consumers go."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from support.daemon import Sidecar, config_text, process, running
from support.doors import both_doors, door, receipt, refusal
from support.nats_server import NatsServer, nats_server
from support.receiver import Receiver
from support.waiting import until
from walnatsd.broker import registration
from walnatsd.broker.client import Client
from walnatsd.broker.registration import register_actor


def config(server: NatsServer, receiver: Receiver | None = None, **parts: Any) -> str:
    actors = [{"name": "print", "event": "counts", "url": receiver.url}] if receiver else []
    return config_text(server.url, **({"events": [{"name": "counts"}], "actors": actors} | parts))


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a while to register an actor."""

    async def register(*args: Any) -> Any:
        await asyncio.sleep(0.3)
        return await register_actor(*args)

    monkeypatch.setattr(registration, "register_actor", register)


async def problems(sidecar: Sidecar) -> dict[str, str]:
    return (await sidecar.readiness())[1]


async def problem(sidecar: Sidecar, part: str) -> str:
    return (await problems(sidecar)).get(part, "")


@pytest.fixture
async def away(nats: NatsServer) -> NatsServer:
    """A nats-server that is not there yet."""
    await nats.kill()
    return nats


async def test_a_stop_while_it_connects_ends_without_an_error(nats, monkeypatch) -> None:
    """A daemon whose address was taken closed the connection just then, and said so with a traceback."""
    attach, close = Client.attach, Client.close
    closed, attached = asyncio.Event(), asyncio.Event()

    async def attach_when_closed(client: Client, subject: str, sink: Any) -> int:
        try:
            await closed.wait()
            return await attach(client, subject, sink)
        finally:
            attached.set()

    async def close_and_wait(client: Client) -> None:
        await close(client)
        closed.set()
        await attached.wait()

    monkeypatch.setattr(Client, "attach", attach_when_closed)
    monkeypatch.setattr(Client, "close", close_and_wait)
    async with running(config(nats), ready=False) as sidecar:
        assert not await sidecar.is_ready()


# ---- NATS is not there


async def test_without_nats_the_daemon_is_alive_and_says_what_it_waits_for_until_nats_comes(
    away, receiver, tmp_path
) -> None:
    async with process(tmp_path / "daemon", config(away, receiver), ready=False) as daemon:
        sidecar = daemon.sidecar
        assert sidecar is not None
        async with sidecar.session.get(f"http://{sidecar.admin}/livez") as response:
            assert response.status == 200
        waiting = f"waiting for NATS at {away.url}: nothing listens there"
        await until(lambda: _equals(sidecar, "nats", waiting))
        status, found = await sidecar.readiness()
        assert status == 503
        assert set(found) == {"nats", "startup", "stream walnatsd-dead-letters"}
        await until(lambda: daemon.said(waiting))
        await away.start()
        await until(sidecar.is_ready)
        assert daemon.said("connected to NATS")
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)
        assert await daemon.end() == 0


async def _equals(sidecar: Sidecar, part: str, text: str) -> bool:
    return await problem(sidecar, part) == text


async def test_the_reason_for_waiting_is_logged_once_and_not_at_each_attempt(away) -> None:
    with capture_logs() as lines:
        async with running(config(away), ready=False) as sidecar:
            await until(lambda: problem(sidecar, "nats"))
            await asyncio.sleep(1)  # some attempts long
    assert [line["event"] for line in lines].count(f"waiting for NATS at {away.url}: nothing listens there") == 1


async def test_emits_that_wait_for_nats_to_come_are_kept_for_the_actors(away, receiver, slowly) -> None:
    """They must not overtake the registration of the actors: JetStream keeps no message that nobody is interested in."""
    async with running(config(away, receiver), ready=False) as sidecar:
        emits = [asyncio.create_task(sidecar.emit("counts", str(number))) for number in range(50)]
        await asyncio.sleep(0.1)
        await away.start()
        await asyncio.gather(*emits)
        await receiver.wait_for(50)
    assert sorted(receiver.bodies, key=int) == [str(number).encode() for number in range(50)]


@both_doors
async def test_an_emit_after_nats_went_is_refused_in_time_and_was_not_stored(nats, kind) -> None:
    async with running(config(nats, emit={"timeout": 0.5})) as sidecar, door(kind, sidecar) as emitter:
        await nats.kill()
        await until(lambda: problem(sidecar, "nats"))
        refused = refusal(await emitter.emit("counts", uid="one"))
        assert (refused.code, refused.reason) == ({"grpc": "UNAVAILABLE", "http": "503"}[kind], "NATS_UNAVAILABLE")
        assert (refused.uid, refused.maybe_stored, refused.retry_after_s) == ("one", False, 1.0)
        await nats.start()
        await until(sidecar.is_ready)
        assert not receipt(await emitter.emit("counts", uid="one"))["duplicate"]


async def test_an_emit_over_max_payload_during_an_outage_does_not_break_the_connection_when_nats_is_back(
    tmp_path,
) -> None:
    async with (
        nats_server(tmp_path / "nats", options={"max_payload": 4096}) as nats,
        running(config(nats)) as sidecar,
    ):
        await nats.kill()
        await until(lambda: problem(sidecar, "nats"))
        emitting = asyncio.create_task(sidecar.try_emit("counts", b"x" * 4096))
        await asyncio.sleep(0.1)
        await nats.start()
        status, answer = await emitting
        assert (status, answer["reason"]) == (413, "TOO_LARGE")
        await until(sidecar.is_ready)
        assert (await sidecar.metrics())["walnatsd_nats_reconnects_total"] == 1


# ---- NATS goes and comes back


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_readiness_goes_down_and_comes_back_over_a_restart_of_nats(nats, receiver, how) -> None:
    async with running(config(nats, receiver)) as sidecar:
        assert (await sidecar.metrics())["walnatsd_nats_connected"] == 1
        await (nats.stop() if how == "stop" else nats.kill())
        await until(lambda: _is_not_ready(sidecar))
        assert f"waiting for NATS at {nats.url}: " in (await problems(sidecar))["nats"]
        assert (await sidecar.metrics())["walnatsd_nats_connected"] == 0
        await nats.start()
        await until(sidecar.is_ready)
        metrics = await sidecar.metrics()
        assert metrics["walnatsd_nats_connected"] == 1
        assert metrics["walnatsd_nats_reconnects_total"] == 1
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)


async def _is_not_ready(sidecar: Sidecar) -> bool:
    return not await sidecar.is_ready()


async def test_a_hung_nats_is_noticed_and_the_daemon_goes_on_when_it_runs_again(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr("walnatsd.broker.connection.PING_INTERVAL_S", 0.1)
    async with running(config(nats, receiver)) as sidecar:
        async with nats.frozen():
            await until(lambda: problem(sidecar, "nats"))
        await until(sidecar.is_ready)
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)


# ---- JetStream, streams and consumers are not there


async def test_a_server_without_jetstream_is_explained(tmp_path) -> None:
    async with (
        nats_server(tmp_path / "nats", options={"jetstream": False}) as nats,
        running(config(nats, emit={"timeout": 0.3}), ready=False) as sidecar,
    ):
        await until(lambda: _has(sidecar, "stream walnatsd-dead-letters", "JetStream is not enabled"))
        status, answer = await sidecar.try_emit("counts", "1")
        assert (status, answer["reason"], answer["maybe_stored"]) == (503, "NATS_UNAVAILABLE", False)


async def _has(sidecar: Sidecar, part: str, text: str) -> bool:
    return text in await problem(sidecar, part)


async def test_an_emit_to_a_stream_that_somebody_deleted_waits_until_it_and_its_actors_are_there_again(
    nats, receiver, slowly
) -> None:
    """Without a wait for the next period of the watch, and without getting there before the actors."""
    async with running(config(nats, receiver)) as sidecar:
        async with nats.jetstream() as jetstream:
            await jetstream.delete_stream("counts")
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)
        await until(sidecar.is_ready)


async def test_a_dead_letter_stream_that_somebody_deletes_is_registered_again(nats, monkeypatch) -> None:
    monkeypatch.setattr("walnatsd.api.watch.PERIOD_S", 0.1)
    async with running(config(nats)) as sidecar, nats.jetstream() as jetstream:
        await jetstream.delete_stream("walnatsd-dead-letters")
        await until(lambda: _stream_exists(jetstream, "walnatsd-dead-letters"))
        await until(sidecar.is_ready)


async def _stream_exists(jetstream: Any, name: str) -> bool:
    return name in [found.config.name for found in await jetstream.streams_info()]


async def test_an_event_in_memory_is_there_again_after_a_restart_of_nats(nats) -> None:
    """Without an actor nobody pulls, so nobody would notice."""
    async with running(config(nats, events=[{"name": "counts", "storage": "memory"}])) as sidecar:
        await nats.stop()
        await until(lambda: problem(sidecar, "nats"))
        await nats.start()
        await until(sidecar.is_ready)
        await sidecar.emit("counts", "7")


@pytest.mark.parametrize("what", ["stream", "consumer"])
async def test_what_is_missing_and_may_not_be_created_makes_the_daemon_not_ready_until_it_is_there(
    nats, receiver, what, monkeypatch
) -> None:
    monkeypatch.setattr("walnatsd.api.watch.PERIOD_S", 0.1)

    async def create() -> None:
        async with nats.jetstream() as jetstream:
            await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
            await jetstream.add_consumer("counts", durable_name="print", ack_policy="explicit")

    await create()
    async with running(config(nats, receiver, nats={"manage": {"create": False}})) as sidecar:
        async with nats.jetstream() as jetstream:
            if what == "stream":
                await jetstream.delete_stream("counts")
            else:
                await jetstream.delete_consumer("counts", "print")
        part = "event counts" if what == "stream" else "actor print of counts"
        await until(lambda: _has(sidecar, part, "is missing, and nats.manage.create is false"))
        assert (await sidecar.readiness())[0] == 503
        await create()
        await until(sidecar.is_ready)
        await sidecar.emit("counts", "7")
        await receiver.wait_for(1)


@pytest.mark.parametrize("server", ["127.0.0.1:{port}", "localhost:{port}", "nats://localhost:{port}/"])
async def test_a_server_may_be_named_without_a_scheme(nats, server) -> None:
    text = config_text("", nats={"servers": [server.format(port=nats.port)]}, events=[{"name": "counts"}])
    async with running(text) as sidecar:
        await sidecar.emit("counts", "1")
