"""Reports to Sentry, seen by a real receiver of its envelopes: which failures are reported, and what a report holds."""

import json
import time
from typing import Any

import pytest

from support.daemon import Sidecar, config_text, process, running
from support.nats_server import free_port
from support.receiver import answers
from support.sentry import sentry_receiver
from support.waiting import until
from walnatsd import __version__
from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def config(nats_url: str, url: str, **options: Any) -> str:
    actor = {"name": "print", "event": "counts", "url": url, "retry": {"delays": [0.01], "jitter": 0}} | options
    sentry = {"dsn": {"env": "DSN"}}
    return config_text(nats_url, sentry=sentry, events=[{"name": "counts"}], actors=[actor])


async def ruled(sidecar: Sidecar, outcome: str) -> float:
    return (await sidecar.metrics()).get(f'walnatsd_sentry_reports_total{{outcome="{outcome}"}}', 0)


async def test_a_dead_letter_is_reported_with_what_is_known_of_it_and_without_the_payload(nats, receiver) -> None:
    receiver.answer = answers(422)
    async with sentry_receiver() as sentry:
        async with running(config(nats.url, receiver.url), environ={"DSN": sentry.dsn}) as sidecar:
            headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
            await sidecar.emit("counts", '"a secret payload"', uid="one", trace_id="order-1", headers=headers)
            [report] = await sentry.wait_for(1)
        assert len(sentry.reports) == 1
    assert report["tags"] == {"actor": "print", "event": "counts", "service": "tests"}
    extra = report["extra"]
    assert {name: extra[name] for name in ("stream_seq_id", "uid", "trace_id", "attempt", "status", "decision")} == {
        "stream_seq_id": 1, "uid": "one", "trace_id": "order-1", "attempt": 1, "status": 422, "decision": "DeadLetter",
    }  # fmt: skip
    assert extra["delivered_at"]
    assert report["exception"]["values"] == [{"type": "dead letter: rejected 422", "value": "the actor answered 422"}]
    assert report["fingerprint"] == ["counts", "print", "dead letter: rejected 422"]
    assert (report["level"], report["release"], report["server_name"]) == ("error", f"walnatsd@{__version__}", "tests")
    assert (report["contexts"]["trace"]["trace_id"], report["contexts"]["trace"]["span_id"]) == (TRACE, SPAN)
    assert "secret payload" not in json.dumps(report)
    assert "breadcrumbs" not in report
    assert "modules" not in report


async def test_the_same_dead_letter_again_is_not_reported_and_counted(nats, receiver) -> None:
    receiver.answer = answers(then=422)
    async with sentry_receiver() as sentry:
        async with running(config(nats.url, receiver.url), environ={"DSN": sentry.dsn}) as sidecar:
            for number in range(5):
                await sidecar.emit("counts", str(number))
            await until(lambda: _is(sidecar, "repeated", 4))
        assert len(sentry.reports) == 1


async def test_a_dead_letter_without_an_attempt_is_reported(nats, receiver) -> None:
    async with (
        sentry_receiver() as sentry,
        running(config(nats.url, receiver.url), environ={"DSN": sentry.dsn}),
        nats.jetstream() as jetstream,
    ):
        await jetstream.publish("counts", b"1", headers={"Walnats-Delay": "soon"})
        [report] = await sentry.wait_for(1)
    assert report["exception"]["values"][0]["type"] == "dead letter: without an attempt"
    assert "Walnats-Delay" in report["exception"]["values"][0]["value"]


async def test_failures_are_reported_when_there_were_more_than_twenty_in_a_row(nats, receiver) -> None:
    receiver.answer = answers(then=500)
    retry = {"delays": [0.01], "jitter": 0, "max_attempts": None}
    text = config(nats.url, receiver.url, retry=retry, breaker={"min_attempts": 1000, "consecutive": 1000})
    async with sentry_receiver() as sentry:
        async with running(text, environ={"DSN": sentry.dsn}) as sidecar:
            for number in range(5):
                await sidecar.emit("counts", str(number))
            [report] = await sentry.wait_for(1)
            assert await ruled(sidecar, "tolerated") == 21
            await until(lambda: _is(sidecar, "repeated", 3))
        assert len(sentry.reports) == 1
    assert report["exception"]["values"][0] == {"type": "failed 500", "value": "the actor answered 500"}


async def test_a_success_ends_the_row(nats, receiver) -> None:
    receiver.answer = answers(*[500] * 15, 204, *[500] * 15)
    retry = {"delays": [0.01], "jitter": 0, "max_attempts": None}
    text = config(nats.url, receiver.url, retry=retry, breaker={"min_attempts": 1000, "consecutive": 1000}, max_jobs=1)
    async with sentry_receiver() as sentry:
        async with running(text, environ={"DSN": sentry.dsn}) as sidecar:
            await sidecar.emit("counts", "1")
            await receiver.wait_for(16)
            await sidecar.emit("counts", "2")
            await receiver.wait_for(32)
            await until(lambda: _is(sidecar, "tolerated", 30))
        assert not sentry.requests


async def test_the_last_reports_are_sent_at_the_stop(nats, receiver) -> None:
    receiver.answer = answers(422)
    async with sentry_receiver() as sentry:
        async with running(config(nats.url, receiver.url), environ={"DSN": sentry.dsn}) as sidecar:
            await sidecar.emit("counts", "1")
            await until(lambda: _is(sidecar, "reported", 1))
        assert len(sentry.reports) == 1


@pytest.mark.parametrize("there", [True, False])
async def test_what_sentry_does_not_take_is_counted_and_said_once(nats, receiver, tmp_path, monkeypatch, there) -> None:
    receiver.answer = answers(422, 400, 413)
    async with sentry_receiver() as sentry:
        sentry.status = 500
        monkeypatch.setenv("DSN", sentry.dsn if there else f"http://key@127.0.0.1:{free_port()}/7")
        async with process(tmp_path / "daemon", config(nats.url, receiver.url)) as daemon:
            assert daemon.sidecar is not None
            for number in range(3):
                await daemon.sidecar.emit("counts", str(number))
            await until(lambda: _is(daemon.sidecar, "lost", 3))
            began = time.monotonic()
            assert await daemon.end() == 0
            assert time.monotonic() - began < 10
    warnings = [line for line in daemon.lines if "Sentry" in line["message"]]
    assert len(warnings) == 1
    assert warnings[0]["why"] == ("status_500" if there else "network")
    assert "key" not in warnings[0]["address"]


async def _is(sidecar: Sidecar, outcome: str, count: int) -> bool:
    return await ruled(sidecar, outcome) >= count


@pytest.mark.parametrize(
    "dsn", ["sentry.example", "https://sentry.example/7", "https://key@sentry.example/", "https://key@:0/7"]
)
def test_what_is_no_dsn_is_told_without_showing_the_secret(dsn) -> None:
    text = config("nats://127.0.0.1:4222", "http://127.0.0.1:8000/")
    with pytest.raises(ConfigError, match=r"sentry\.dsn: the secret is no DSN") as caught:
        load_text(text, file=None, environ={"DSN": dsn})
    assert dsn not in str(caught.value)
