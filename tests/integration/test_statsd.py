"""Figures over StatsD, seen by a real receiver: the names and types that walnats' StatsdMiddleware sends."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
import walnats.middlewares

from support.daemon import config_text, process, running
from support.nats_server import free_port
from support.receiver import answers
from support.statsd import StatsdReceiver, statsd_receiver
from support.waiting import until
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError


def config(nats_url: str, address: str, url: str, **options: Any) -> str:
    actor = {"name": "print", "event": "counts", "url": url, "retry": {"delays": [0.05], "jitter": 0}} | options
    return config_text(nats_url, statsd={"address": address}, events=[{"name": "counts"}], actors=[actor])


class _Client:
    """Stands where walnats wants Datadog's client, and writes down what it is told."""

    def __init__(self) -> None:
        self.said: set[tuple[str, str]] = set()

    def increment(self, name: str) -> None:
        self.said.add((name, "count"))

    def histogram(self, name: str, _value: float) -> None:
        self.said.add((name, "histogram"))


def said_by_walnats() -> set[tuple[str, str]]:
    client = _Client()
    middleware = walnats.middlewares.StatsdMiddleware(client)  # type: ignore[arg-type]
    actor = SimpleNamespace(name="print", event=SimpleNamespace(name="counts"))
    context: Any = SimpleNamespace(actor=actor, duration=0.1)
    middleware.on_start(context)
    middleware.on_failure(context)
    middleware.on_success(context)
    return client.said


def said(statsd: StatsdReceiver) -> set[tuple[str, str]]:
    return {(name, "count") for name in statsd.counts} | {(name, "histogram") for name in statsd.histograms}


async def test_attempts_are_counted_as_walnats_counts_them_and_durations_are_in_seconds(nats, receiver) -> None:
    receiver.answer = answers(500, 503)
    async with statsd_receiver() as statsd, running(config(nats.url, statsd.address, receiver.url)) as sidecar:
        await sidecar.emit("counts", "1")
        await sidecar.emit("counts", "2")
        await statsd.wait_for("walnats.counts.print.processed", 2)
        await statsd.wait_for("walnats.counts.print.started", 4)
        await until(lambda: statsd.histograms)
        metrics = await sidecar.metrics()
    assert said(statsd) == said_by_walnats()
    assert statsd.counts["walnats.counts.print.failed"] == 2
    durations = statsd.histograms["walnats.counts.print.duration"]
    assert len(durations) == 2
    assert all(0 < duration < 5 for duration in durations)
    assert metrics['walnatsd_statsd_packets_total{outcome="sent"}'] >= 1


async def test_each_message_of_a_batch_counts(nats, receiver) -> None:
    async with statsd_receiver() as statsd:
        text = config(nats.url, statsd.address, receiver.url, batch={"max_size": 3, "max_wait": "5s"})
        async with running(text) as sidecar:
            for number in "123":
                await sidecar.emit("counts", number)
            await statsd.wait_for("walnats.counts.print.processed", 3)
    assert statsd.counts["walnats.counts.print.started"] == 3
    assert len(statsd.histograms["walnats.counts.print.duration"]) == 3


async def test_what_was_gathered_last_is_sent_at_the_stop_in_packets_that_are_not_too_large(nats, receiver) -> None:
    async with statsd_receiver() as statsd:
        async with running(config(nats.url, statsd.address, receiver.url)) as sidecar:
            for number in range(200):
                await sidecar.emit("counts", str(number))
            await receiver.wait_for(200)
        await statsd.wait_for("walnats.counts.print.processed", 200)
        await until(lambda: len(statsd.histograms["walnats.counts.print.duration"]) == 200)
    assert max(map(len, statsd.packets)) <= 1432
    assert len(statsd.packets) < 60  # gathered, not one for each figure


async def test_over_ipv6(nats, receiver) -> None:
    async with statsd_receiver("::1") as statsd, running(config(nats.url, statsd.address, receiver.url)) as sidecar:
        await sidecar.emit("counts", "1")
        await statsd.wait_for("walnats.counts.print.processed", 1)


async def test_where_nobody_listens_all_goes_on(nats, receiver) -> None:
    async with running(config(nats.url, f"127.0.0.1:{free_port()}", receiver.url)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        await until(lambda: _sent(sidecar, "sent"))


async def test_a_name_that_nobody_knows_is_said_once_and_packets_are_counted_as_dropped(
    nats, receiver, tmp_path
) -> None:
    text = config(nats.url, "statsd.invalid:8125", receiver.url)
    async with process(tmp_path / "daemon", text) as daemon:
        assert daemon.sidecar is not None
        for number in range(3):
            await daemon.sidecar.emit("counts", str(number))
            await receiver.wait_for(number + 1)
            await until(lambda enough=number + 1: _sent(daemon.sidecar, "dropped", enough))
        began = time.monotonic()
        assert await daemon.end() == 0
        assert time.monotonic() - began < 10
    warnings = [line for line in daemon.lines if "StatsD" in line["message"]]
    assert len(warnings) == 1
    assert warnings[0]["address"] == "statsd.invalid:8125"
    assert "can't resolve 'statsd.invalid'" in warnings[0]["why"]


async def _sent(sidecar: Any, outcome: str, enough: int = 1) -> bool:
    metrics = await sidecar.metrics()
    return metrics.get(f'walnatsd_statsd_packets_total{{outcome="{outcome}"}}', 0) >= enough


@pytest.mark.parametrize(
    "address", ["statsd", "127.0.0.1:0", "unix:/run/statsd.sock", "127.0.0.1:8125 ", "udp://h:8125x"]
)
def test_what_is_no_address_is_told(address) -> None:
    with pytest.raises(ConfigError, match=r"statsd\.address: write an address like 127\.0\.0\.1:8125"):
        load_text(config("nats://127.0.0.1:4222", address, "http://127.0.0.1:8000/"), file=None, environ={})
