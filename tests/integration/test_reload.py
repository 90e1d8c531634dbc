"""Reloading the config file while running, and handling what is there in a burst."""

import asyncio
import signal

from aiohttp import web

import walnatsd_client as walnatsd
from support.admin import actor_status, admin
from support.daemon import Process, config_text, process, running
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.receiver import receiver as another_receiver
from support.waiting import until


def text_for(
    nats: NatsServer, *actors: dict[str, object], events: tuple[str, ...] = ("counts",), **parts: object
) -> str:
    return config_text(nats.url, events=[{"name": name} for name in events], actors=list(actors), **parts)


def actor(receiver: Receiver, name: str = "print", **options: object) -> dict[str, object]:
    return {"name": name, "event": "counts", "url": receiver.url} | options


async def test_actors_and_events_come_change_and_go_while_deliveries_are_in_flight(nats, receiver, tmp_path) -> None:
    release = asyncio.Event()

    async def slow(received: Received) -> web.StreamResponse:
        if received.body == b"slow":
            await release.wait()
        return web.Response()

    receiver.answer = slow
    file = tmp_path / "walnatsd.yaml"
    file.write_text(text_for(nats, actor(receiver), actor(receiver, "going"), actor(receiver, "staying")))
    async with another_receiver() as other, running(file.read_text(), file=str(file)) as sidecar:
        await sidecar.emit("counts", "slow")
        await receiver.wait_for(3)
        changed = actor(other, max_jobs=3)
        file.write_text(
            text_for(nats, changed, actor(receiver, "staying"), actor(other, "coming"), events=("counts", "more"))
        )
        reloading = asyncio.create_task(admin(sidecar, "POST", "reload"))
        await until(lambda: _is_gone(sidecar, "going"))
        assert not reloading.done()  # what is in flight is settled first
        release.set()
        status, answer = await reloading
        assert (status, answer) == (
            200,
            {
                "added": ["event more", "actor coming of counts"],
                "changed": ["actor print of counts"],
                "removed": ["actor going of counts"],
            },
        )
        await sidecar.emit("counts", "after")
        await sidecar.emit("more", "after")
        await until(
            lambda: (
                {each.headers["walnats-actor"] for each in other.received if each.body == b"after"}
                == {"print", "coming"}
            )
        )
        await until(lambda: len(receiver.received) == 4)
        assert receiver.received[3].headers["walnats-actor"] == "staying"
        async with nats.jetstream() as jetstream:
            going = await jetstream.consumer_info("counts", "going")
            assert (going.num_ack_pending, going.num_pending) == (0, 1)  # its consumer stays, and what waits for it
            assert going.num_redelivered == 0
    slow_ones = [each for each in (*receiver.received, *other.received) if each.body == b"slow"]
    assert sorted(each.headers["walnats-actor"] for each in slow_ones if each.headers["walnats-actor"] != "coming") == [
        "going", "print", "staying",
    ]  # fmt: skip


async def _is_gone(sidecar, name: str) -> bool:
    _, answer = await admin(sidecar, "GET", "actors")
    return name not in {item["name"] for item in answer["items"]} or all(item["window"] for item in answer["items"])


async def test_a_bad_file_changes_nothing_and_says_why(nats, receiver, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    good = text_for(nats, actor(receiver))
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="foreign", subjects=["foreign.>"])
    async with running(good, file=str(file)) as sidecar:
        for text, words in (
            ("events: [", "not valid YAML"),
            (text_for(nats, actor(receiver, maxjobs=3)), "actors[0].maxjobs: unknown key"),
            (text_for(nats, actor(receiver), max_jobs=7), "max_jobs can't change while the daemon runs"),
            (text_for(nats, actor(receiver), events=("counts", "foreign")), "NATS would not accept it: event foreign:"),
        ):
            file.write_text(text)
            status, problem = await admin(sidecar, "POST", "reload")
            assert (status, problem["reason"]) == (400, "INVALID_CONFIG")
            assert words in problem["detail"]
        file.unlink()
        status, problem = await admin(sidecar, "POST", "reload")
        assert (status, problem["reason"]) == (400, "INVALID_CONFIG")
        file.write_text(good)
        status, answer = await admin(sidecar, "POST", "reload")
        assert (status, answer) == (200, {"added": [], "changed": [], "removed": []})
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)


async def test_a_secret_that_changed_in_its_file_restarts_its_actor(nats, receiver, tmp_path) -> None:
    (tmp_path / "auth").write_text("old")
    file = tmp_path / "walnatsd.yaml"
    file.write_text(text_for(nats, actor(receiver, headers={"Authorization": {"file": "auth"}})))
    async with running(file.read_text(), file=str(file)) as sidecar:
        await sidecar.emit("counts", "1")
        await receiver.wait_for(1)
        (tmp_path / "auth").write_text("new")
        _, answer = await admin(sidecar, "POST", "reload")
        assert answer["changed"] == ["actor print of counts"]
        await sidecar.emit("counts", "2")
        await receiver.wait_for(2)
    assert [each.headers["authorization"] for each in receiver.received] == ["old", "new"]


async def test_sighup_reloads_and_a_bad_file_is_told_in_the_log(nats, receiver, tmp_path) -> None:
    async with process(tmp_path, text_for(nats, actor(receiver))) as daemon:
        daemon.file.write_text("events: {")
        daemon.send_signal(signal.SIGHUP)
        await until(lambda: daemon.said("the config file was not reloaded; nothing changed"))
        daemon.file.write_text(text_for(nats, actor(receiver), actor(receiver, "more")))
        daemon.send_signal(signal.SIGHUP)
        await until(lambda: daemon.said("reloaded the config file"))
        assert daemon.sidecar is not None
        assert (await actor_status(daemon.sidecar, "more"))["exists"]
        assert await daemon.end() == 0


async def test_a_burst_handles_what_is_there_and_exits_with_0(nats, receiver, tmp_path) -> None:
    failed_once: set[bytes] = set()

    async def fail_once(received: Received) -> web.StreamResponse:
        if received.body in failed_once:
            return web.Response()
        failed_once.add(received.body)
        return web.Response(status=500)

    text = text_for(nats, actor(receiver, retry={"delays": [0.1]}))
    async with running(text):
        pass
    async with nats.jetstream() as jetstream:
        for number in range(50):
            await jetstream.publish("counts", str(number).encode())
    receiver.answer = fail_once
    daemon = Process(tmp_path, text, "--burst")
    await daemon.start(ready=False)
    assert await daemon.wait() == 0
    assert len(receiver.received) == 100
    assert len(set(receiver.bodies)) == 50


async def test_a_burst_stops_at_once_when_it_is_told_to(nats, receiver, tmp_path) -> None:
    await receiver.down()
    text = text_for(nats, actor(receiver))
    async with running(text) as sidecar:
        await sidecar.emit("counts", "1")
    async with process(tmp_path, text, "--burst") as daemon:
        assert await daemon.end() == 0


async def test_a_burst_leaves_a_paused_actor_as_it_is(nats, receiver, tmp_path) -> None:
    text = text_for(nats, actor(receiver))
    async with running(text) as sidecar:
        await admin(sidecar, "POST", "actors/counts/print/pause")
        await sidecar.emit("counts", "1")
    daemon = Process(tmp_path, text, "--burst")
    await daemon.start(ready=False)
    assert await daemon.wait() == 0
    assert daemon.said("a paused actor is left as it is")
    assert receiver.received == []


async def test_what_an_actor_that_left_with_its_event_holds_back_is_told(nats, receiver, tmp_path, capsys) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(text_for(nats, actor(receiver), actor(receiver, "going", event="more"), events=("counts", "more")))
    async with running(file.read_text(), file=str(file)) as sidecar:
        file.write_text(text_for(nats))
        await admin(sidecar, "POST", "reload")
        [told] = [line for line in capsys.readouterr().out.splitlines() if "until it is removed" in line]
        assert "actor=going" in told  # of the other one's event the orphans are watched
        assert (await admin(sidecar, "DELETE", "actors/more/going"))[0] == 204


async def test_an_event_that_leaves_the_file_stays_for_an_actor_that_came_over_grpc(nats, receiver, tmp_path) -> None:
    """Its consumer was deleted, and the daemon ended."""
    file = tmp_path / "walnatsd.yaml"
    file.write_text(text_for(nats, actor(receiver)))
    async with running(file.read_text(), file=str(file)) as sidecar:
        async with walnatsd.connect(sidecar.grpc) as connection:
            event = walnatsd.Event("counts", int)
            await connection.register(walnatsd.Actor("mine", event, print, url=receiver.url))
        file.write_text(config_text(nats.url))
        status, _ = await admin(sidecar, "POST", "reload")
        assert status == 200
        async with nats.jetstream() as jetstream:
            await jetstream.delete_consumer("counts", "mine")

            async def back() -> bool:
                return (await actor_status(sidecar, "mine"))["exists"]

            await until(back)
        await until(sidecar.is_ready)
        await sidecar.emit("counts", "7")
        await until(lambda: "mine" in {each.headers["walnats-actor"] for each in receiver.received})
