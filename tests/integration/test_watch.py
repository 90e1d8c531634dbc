"""What others do to streams and consumers while the daemon runs is noticed."""

import json

from support.admin import actor_status, admin, event_status
from support.daemon import Sidecar, config_text, running
from support.nats_server import NatsServer
from support.receiver import Receiver
from support.waiting import until
from walnatsd.api import watch


def text_for(server: NatsServer, receiver: Receiver, **parts: object) -> str:
    actors = [{"name": "print", "event": "counts", "url": receiver.url, "ack_wait": 5}]
    return config_text(server.url, events=[{"name": "counts", "limits": {"age": "1h"}}], actors=actors, **parts)


async def serves_again(sidecar, receiver) -> None:
    async def back() -> bool:
        return (await actor_status(sidecar, "print"))["exists"]

    await until(back)
    await until(sidecar.is_ready)
    await sidecar.emit("counts", "1")
    await receiver.wait_for(1)


async def test_a_stream_that_somebody_deletes_is_made_again_with_its_actors(
    nats, receiver, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    async with running(text_for(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        await jetstream.delete_stream("counts")
        await serves_again(sidecar, receiver)
    assert "somebody deleted" in capsys.readouterr().out


async def test_a_consumer_that_somebody_deletes_while_nothing_is_pulled_is_made_again(
    nats, receiver, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    async with running(text_for(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        await jetstream.delete_consumer("counts", "print")
        await serves_again(sidecar, receiver)
    assert "somebody deleted or changed the actor's consumer" in capsys.readouterr().out


async def test_what_is_missing_and_may_not_be_made_again_makes_the_daemon_unready(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    async with running(text_for(nats, receiver)):
        pass
    managed = {"servers": [nats.url], "manage": {"create": False}}
    async with running(text_for(nats, receiver, nats=managed)) as sidecar, nats.jetstream() as jetstream:
        await jetstream.delete_consumer("counts", "print")

        async def unready() -> bool:
            status, problems = await sidecar.readiness()
            return status == 503 and "nats.manage.create is false" in problems.get("actor print of counts", "")

        await until(unready)


async def test_what_somebody_changes_is_reported_as_drift_and_not_fought_over(
    nats, receiver, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    async with running(text_for(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        stream = (await jetstream.stream_info("counts")).config
        stream.max_age = 1800
        await jetstream.update_stream(stream)
        info = await jetstream._api_request("$JS.API.CONSUMER.INFO.counts.print", b"")
        update = {"stream_name": "counts", "action": "update", "config": info["config"] | {"ack_wait": 9_000_000_000}}
        await jetstream._api_request("$JS.API.CONSUMER.CREATE.counts.print", json.dumps(update).encode())

        async def seen() -> bool:
            event, actor = await event_status(sidecar, "counts"), await actor_status(sidecar, "print")
            return (event["drift"], actor["drift"]) == (["limits.age"], ["ack_wait"])

        await until(seen)
        assert (await jetstream.stream_info("counts")).config.max_age == 1800
        metrics = await sidecar.metrics()
        assert metrics['walnatsd_drift{actor="",event="counts",kind="event"}'] == 1
        assert metrics['walnatsd_drift{actor="print",event="counts",kind="actor"}'] == 1
        assert capsys.readouterr().out.count("is not as it is declared") == 2  # said once, not every period
        stream.max_age = 3600
        await jetstream.update_stream(stream)

        async def gone() -> bool:
            return (await event_status(sidecar, "counts"))["drift"] == []

        await until(gone)


async def test_what_would_discard_messages_is_said_with_its_remedy_and_once_however_many_they_become(
    nats, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    text = config_text(nats.url, events=[{"name": "counts", "limits": {"messages": 2}}])
    async with running(text) as sidecar, nats.jetstream() as jetstream:
        stream = (await jetstream.stream_info("counts")).config
        stream.max_msgs = -1
        await jetstream.update_stream(stream)
        await jetstream.add_consumer("counts", durable_name="keeps", ack_policy="explicit")
        for number in range(4):
            await sidecar.emit("counts", str(number))

        async def says(words: str) -> bool:
            return any(words in each for each in await drift(sidecar))

        await until(lambda: says("it would discard 2 stored messages; walnatsd apply --force writes it"))
        await sidecar.emit("counts", "6")
        await until(lambda: says("it would discard 3 stored messages"))
    assert capsys.readouterr().out.count("is not as it is declared") == 1


async def drift(sidecar: Sidecar) -> list[str]:
    return (await event_status(sidecar, "counts"))["drift"]


async def test_orphans_are_shown_and_counted(nats, receiver, monkeypatch, capsys) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    async with running(text_for(nats, receiver)) as sidecar, nats.jetstream() as jetstream:
        await jetstream.pull_subscribe("counts", durable="forgotten", stream="counts")

        async def counted() -> bool:
            return (await sidecar.metrics()).get('walnatsd_orphans{event="counts"}') == 1

        await until(counted)
        assert (await event_status(sidecar, "counts"))["orphans"] == ["forgotten"]
        assert (await admin(sidecar, "DELETE", "actors/counts/forgotten"))[0] == 204
    assert "hold messages of the event back" in capsys.readouterr().out


async def test_an_ordered_actor_that_is_as_it_is_declared_has_no_drift(nats, receiver, monkeypatch) -> None:
    monkeypatch.setattr(watch, "PERIOD_S", 0.1)
    actors = [{"name": "print", "event": "counts", "url": receiver.url, "order_by": "/key"}]
    async with running(config_text(nats.url, events=[{"name": "counts"}], actors=actors)) as sidecar:
        looked = 'walnatsd_drift{actor="print",event="counts",kind="actor"}'
        monkeypatch.setattr(watch, "PERIOD_S", 0.05)
        await sidecar.emit("counts", '{"key": 1}')
        await receiver.wait_for(1)

        async def seen() -> bool:
            return looked in await sidecar.metrics()

        await until(seen)
        for _ in range(5):
            assert (await actor_status(sidecar, "print"))["drift"] == []
            assert (await sidecar.metrics())[looked] == 0
