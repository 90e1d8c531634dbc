"""Stopping without loss, in time; and ending loudly where something unexpected happens."""

import asyncio
import signal
import time
from typing import Any

import pytest
from aiohttp import web

from support.daemon import Process, config_text, process, running
from support.doors import door, receipt
from support.nats_server import NatsServer
from support.proxy import proxy
from support.receiver import Received, Receiver
from support.waiting import until


def config(url: str, receiver: Receiver | None = None, *, actor: dict[str, Any] | None = None, **parts: Any) -> str:
    options = {"name": "print", "event": "counts"} | (actor or {})
    actors = [options | {"url": receiver.url}] if receiver else []
    return config_text(url, events=[{"name": "counts"}, {"name": "follow-up"}], actors=actors, **parts)


class Held:
    """An actor that answers when it is let."""

    def __init__(self, receiver: Receiver) -> None:
        self.release = asyncio.Event()
        receiver.answer = self._answer

    async def _answer(self, _received: Received) -> web.StreamResponse:
        await self.release.wait()
        return web.Response(status=204)


async def unsettled(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.consumer_info("counts", "print")).num_ack_pending or 0


async def stored(nats: NatsServer) -> int:
    async with nats.jetstream() as jetstream:
        return (await jetstream.stream_info("counts")).state.messages


async def is_stopping(daemon: Process) -> bool:
    assert daemon.sidecar is not None
    return "stopping" in (await daemon.sidecar.readiness())[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_stop_fails_readiness_first_then_finishes_what_is_in_flight_and_pulls_nothing_more(
    nats, receiver, tmp_path, number
) -> None:
    held = Held(receiver)
    async with process(tmp_path, config(nats.url, receiver)) as daemon:
        sidecar = daemon.sidecar
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        daemon.send_signal(number)
        await until(lambda: is_stopping(daemon))
        assert (await sidecar.readiness())[0] == 503
        await sidecar.emit("counts", "2")  # who still can't do without this sidecar is served
        await asyncio.sleep(0.2)
        assert receiver.bodies == [b"1"]
        held.release.set()
        assert await daemon.wait() == 0
    assert receiver.bodies == [b"1"]
    assert await unsettled(nats) == 0
    assert await stored(nats) == 1  # the second one, for whoever comes next
    assert [line["message"] for line in daemon.lines][-2:] == ["stopping", "stopped"]


async def test_what_is_not_finished_in_time_is_handed_back_and_another_sidecar_gets_it_at_once(
    nats, receiver, tmp_path
) -> None:
    Held(receiver)
    text = config(nats.url, receiver, actor={"ack_wait": 60}, shutdown_timeout=1)
    async with process(tmp_path, text) as daemon:
        for number in range(4):
            await daemon.sidecar.emit("counts", str(number))
        await receiver.wait_for(4)
        async with running(text):
            daemon.send_signal(signal.SIGTERM)
            began = time.monotonic()
            assert await daemon.wait() == 0
            assert time.monotonic() - began < 10
            again = (await receiver.wait_for(8))[4:]
            assert sorted(received.body for received in again) == [b"0", b"1", b"2", b"3"]


async def test_a_handler_can_emit_through_the_sidecar_while_it_finishes(nats, receiver, tmp_path) -> None:
    held = Held(receiver)
    answers = []

    async def follow_up(received: Received) -> web.StreamResponse:
        response = await held._answer(received)
        answers.append(await daemon.sidecar.emit("follow-up", "over HTTP"))
        async with door("grpc", daemon.sidecar) as emitter:
            answers.append(receipt(await emitter.emit("follow-up", b"over gRPC")))
        return response

    receiver.answer = follow_up
    async with process(tmp_path, config(nats.url, receiver)) as daemon:
        await daemon.sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        daemon.send_signal(signal.SIGTERM)
        await until(lambda: is_stopping(daemon))
        held.release.set()
        assert await daemon.wait() == 0
    assert [answer["stream"] for answer in answers] == ["follow-up", "follow-up"]
    assert await unsettled(nats) == 0


async def test_emits_in_flight_get_their_puback(nats, tmp_path) -> None:
    async with (
        proxy(nats.port) as way,
        process(tmp_path, config(way.url)) as daemon,
        door("grpc", daemon.sidecar) as emitter,
    ):
        way.hold_answers()
        over_http = [asyncio.create_task(daemon.sidecar.emit("counts", str(number))) for number in range(20)]
        over_grpc = [asyncio.create_task(emitter.emit("counts")) for _ in range(20)]
        await until(lambda: way.requests.count(b"HPUB counts") == 40)
        daemon.send_signal(signal.SIGTERM)
        await until(lambda: daemon.said('"stopping"'))
        way.resume()
        assert all(answer["sequence"] for answer in await asyncio.gather(*over_http))
        assert all(receipt(answer)["sequence"] for answer in await asyncio.gather(*over_grpc))
        assert await daemon.wait() == 0


async def test_a_second_signal_ends_the_daemon_at_once(nats, receiver, tmp_path) -> None:
    Held(receiver)
    async with process(tmp_path, config(nats.url, receiver, shutdown_timeout=60)) as daemon:
        await daemon.sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        daemon.send_signal(signal.SIGTERM)
        await until(lambda: is_stopping(daemon))
        began = time.monotonic()
        assert await daemon.end(signal.SIGTERM) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 10
        assert daemon.said("a second signal; ending at once")


# ---- although NATS is in trouble


async def test_the_daemon_stops_in_time_although_nats_hangs(nats, receiver, tmp_path) -> None:
    held = Held(receiver)
    async with process(tmp_path, config(nats.url, receiver, shutdown_timeout=2)) as daemon:
        await daemon.sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        async with nats.frozen():
            held.release.set()  # its ack will not be answered
            status = asyncio.create_task(daemon.sidecar.try_emit("counts", b"x" * 100_000))
            daemon.send_signal(signal.SIGTERM)
            began = time.monotonic()
            code = await daemon.wait()
        await asyncio.wait([status])
        assert code == 0
        assert time.monotonic() - began < 10
        status.exception()


async def test_the_daemon_stops_in_time_although_nats_has_gone(nats, receiver, tmp_path) -> None:
    Held(receiver)
    async with process(tmp_path, config(nats.url, receiver, shutdown_timeout=2)) as daemon:
        await daemon.sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        await nats.kill()
        daemon.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert await daemon.wait() == 0
        assert time.monotonic() - began < 10


async def test_the_daemon_stops_although_nats_never_came(nats, receiver, tmp_path) -> None:
    await nats.kill()
    async with process(tmp_path, config(nats.url, receiver), ready=False) as daemon:
        began = time.monotonic()
        assert await daemon.end() == 0
        assert time.monotonic() - began < 10


async def test_the_daemon_stops_although_what_is_missing_can_not_be_registered_again(nats, tmp_path) -> None:
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest")
        await jetstream.add_stream(name="follow-up", subjects=["follow-up"], retention="interest")
        may_not_create = config(nats.url, nats={"manage": {"create": False}})
        impatient = "from walnatsd.api import watch\nwatch.PERIOD_S = 0.1"
        async with process(tmp_path, may_not_create, prelude=impatient) as daemon:
            await jetstream.delete_stream("counts")
            await until(lambda: daemon.said("is missing, and nats.manage.create is false"))
            began = time.monotonic()
            assert await daemon.end() == 0
            assert time.monotonic() - began < 10


# ---- the unexpected

FAULTS = {
    "a ticker": "from walnatsd.dispatch.pulse import Pulse\nPulse.beat = lambda self: 1 / 0",
    "a job": "from walnatsd.dispatch import handling\nhandling.decide = lambda *a, **k: 1 / 0",
    "reading from NATS": "from walnatsd.broker import delivery\ndelivery.parse_ack_subject = lambda subject: 1 / 0",
    "the connection's watch": "from walnatsd.broker.client import Client\nClient.revive = lambda self: 1 / 0",
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_an_unexpected_exception_in_a_background_task_ends_the_daemon_loudly(
    nats, receiver, tmp_path, fault
) -> None:
    Held(receiver)  # for what only shows while something is in flight
    text = config(nats.url, receiver, actor={"job_timeout": 2}, shutdown_timeout=1)
    async with process(tmp_path, text, ready=False, prelude=fault) as daemon:
        assert daemon.sidecar is not None
        await until(daemon.sidecar.is_ready)
        await daemon.sidecar.emit("counts", "1")
        assert await daemon.wait() == 1
        [line] = [line for line in daemon.lines if line["level"] == "error"]
        assert line["message"] == "the daemon ends because of an unexpected error"
        assert "ZeroDivisionError" in str(line["exception"])


async def test_a_hangup_while_it_stops_does_not_cut_the_stop_short(nats, receiver, tmp_path) -> None:
    release = asyncio.Event()

    async def slow(_received: Received) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    receiver.answer = slow
    async with process(tmp_path, config(nats.url, receiver)) as daemon:
        assert daemon.sidecar is not None
        await daemon.sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        daemon.send_signal(signal.SIGTERM)
        await until(lambda: daemon.said("stopping"))
        daemon.send_signal(signal.SIGHUP)
        release.set()
        assert await daemon.wait() == 0
        assert daemon.said("stopped")
