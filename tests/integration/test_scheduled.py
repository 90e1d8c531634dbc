"""Delayed emits that are not due yet: listed and cancelled over gRPC, HTTP and the command line."""

import asyncio
import datetime as dt
import json
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from click.testing import CliRunner, Result

from support.daemon import Sidecar, config_text, running
from support.doors import read_answer, refusal
from support.grpc_calls import refused, stubs
from support.nats_server import NatsServer, binary_of, nats_server
from support.route import in_stream
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.own_streams import WORK
from walnatsd.broker.schedules import Schedules
from walnatsd.cli import main
from walnatsd.emit import waiting
from walnatsd.v1 import events_pb2

FAR = "2h"


def config(nats: NatsServer, **parts: Any) -> str:
    return config_text(nats.url, events=[{"name": "counts"}, {"name": "a.b"}], **parts)


async def scheduled(sidecar: Sidecar, event: str, *, method: str = "GET", uid: str = "", **query: str | int) -> Any:
    """Status and answer of a call to `/v1/events/{event}/scheduled`."""
    url = f"http://{sidecar.http}/v1/events/{event}/scheduled" + (f"/{quote(uid, safe='')}" if uid else "")
    async with sidecar.session.request(method, url, params=query) as response:
        return response.status, await response.json()


async def cancel(sidecar: Sidecar, event: str, uid: str) -> Any:
    return await scheduled(sidecar, event, method="DELETE", uid=uid)


async def uids(sidecar: Sidecar, event: str, **query: str | int) -> list[str]:
    status, answer = await scheduled(sidecar, event, **query)
    assert status == 200
    return [item["uid"] for item in answer["items"]]


async def command(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["scheduled", *arguments])


def last_line(result: Result) -> str:
    """What the command printed; above it may stand what the daemon in this process logged meanwhile."""
    return result.stdout.splitlines()[-1]


def in_a_month() -> dt.datetime:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(days=30)).replace(microsecond=250_000)


async def emit_later(sidecar: Sidecar, event: str, *uids: str) -> None:
    for uid in uids:
        status, answer = await sidecar.try_emit(event, "7", uid=uid, delay=FAR)
        assert (status, answer["duplicate"]) == (202, False)


async def number_is(sidecar: Sidecar, event: str, expected: int | None) -> None:
    async def shown() -> bool:
        return (await sidecar.metrics()).get(f'walnatsd_scheduled_messages{{event="{event}"}}') == expected

    await until(shown)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets the daemon look often; has an entry for each look at the stream that they wait in."""
    looks: list[str] = []
    stream = JetStream.stream

    async def looked(self: JetStream, name: str) -> Any:
        looks.extend([name] if name == WORK else [])
        return await stream(self, name)

    monkeypatch.setattr(JetStream, "stream", looked)
    monkeypatch.setattr(waiting, "PERIOD_S", 0.05)
    return looks


async def looked_again(looks: list[str]) -> None:
    so_far = len(looks)
    await until(lambda: len(looks) > so_far + 2)


async def test_they_are_listed_in_the_order_of_the_emits_each_event_on_its_own(nats) -> None:
    async with running(config(nats)) as sidecar:
        assert await scheduled(sidecar, "counts") == (200, {"items": [], "next_cursor": None})
        moment = in_a_month()
        local = moment.astimezone(dt.timezone(dt.timedelta(hours=1)))
        await sidecar.try_emit("counts", "7", uid="/s 1", deliver_at=local.isoformat())
        await emit_later(sidecar, "a.b", "other")
        await emit_later(sidecar, "counts", "two")
        status, answer = await scheduled(sidecar, "counts")
        assert await uids(sidecar, "a.b") == ["other"]
    assert status == 200
    assert [item["uid"] for item in answer["items"]] == ["/s 1", "two"]
    assert answer["items"][0] == {"event": "counts", "uid": "/s 1", "deliver_at": f"{moment:%FT%T}.250000Z"}


async def test_a_list_comes_in_pages(nats) -> None:
    async with running(config(nats)) as sidecar:
        await emit_later(sidecar, "counts", *"abcde")
        pages, cursor = [], {}
        while True:
            _, answer = await scheduled(sidecar, "counts", limit=2, **cursor)
            pages.append([item["uid"] for item in answer["items"]])
            if answer["next_cursor"] is None:
                break
            cursor = {"cursor": answer["next_cursor"]}
    assert pages == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_page_of_large_messages_ends_early(nats) -> None:
    names = [f"u{number:02}" for number in range(20)]
    async with running(config(nats)) as sidecar:
        for uid in names:
            status, _ = await sidecar.try_emit("counts", b"x" * (900 << 10), uid=uid, delay=FAR)
            assert status == 202
        _, first = await scheduled(sidecar, "counts", limit=50)
        _, rest = await scheduled(sidecar, "counts", limit=50, cursor=first["next_cursor"])
    assert [item["uid"] for item in [*first["items"], *rest["items"]]] == names
    assert 0 < len(rest["items"]) < len(first["items"])
    assert rest["next_cursor"] is None


async def test_grpc_lists_and_cancels_as_http_does(nats) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        instant = in_a_month()
        request = events_pb2.EmitRequest(event="counts", uid="one")
        request.deliver_at.FromDatetime(instant)
        answer = await calls.events.Emit(request)
        assert (answer.scheduled, answer.sequence, answer.stream, answer.duplicate) == (True, 0, "counts", False)
        await emit_later(sidecar, "counts", "two")
        first = await calls.events.ListScheduled(events_pb2.ListScheduledRequest(event="counts", limit=1))
        rest = await calls.events.ListScheduled(
            events_pb2.ListScheduledRequest(event="counts", cursor=first.next_cursor)
        )
        [one], [two] = first.items, rest.items
        assert (one.event, one.uid, one.deliver_at.ToDatetime(dt.UTC)) == ("counts", "one", instant)
        assert (two.uid, rest.next_cursor) == ("two", "")
        cancelling = events_pb2.CancelScheduledRequest(event="counts", uid="one")
        assert (await calls.events.CancelScheduled(cancelling)).cancelled
        assert not (await calls.events.CancelScheduled(cancelling)).cancelled
        assert await uids(sidecar, "counts") == ["two"]


async def test_what_is_cancelled_is_never_handled_and_its_uid_is_free_again(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        await sidecar.try_emit("counts", "wrong", uid="/s 1", delay="3s")
        await sidecar.try_emit("counts", "right", uid="other", delay="3s")
        assert await cancel(sidecar, "counts", "/s 1") == (200, {"cancelled": True})
        assert await cancel(sidecar, "counts", "/s 1") == (200, {"cancelled": False})
        assert await uids(sidecar, "counts") == ["other"]
        status, answer = await sidecar.try_emit("counts", "changed", uid="/s 1", delay="3100ms")
        assert (status, answer["duplicate"]) == (202, False)
        await until(lambda: _stored(nats, 2))
    assert {payload for payload, _ in await stored(nats)} == {b"right", b"changed"}


async def test_what_is_due_can_not_be_cancelled(nats) -> None:
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)
        await sidecar.try_emit("counts", "7", uid="one", delay="10ms")
        await until(lambda: _stored(nats, 1))
        assert await cancel(sidecar, "counts", "one") == (200, {"cancelled": False})
        assert await uids(sidecar, "counts") == []
        assert await in_stream(nats) == 0


async def test_an_emit_is_either_cancelled_or_handled_even_where_both_come_at_once(nats) -> None:
    """The answer of a cancellation holds: what it says to be cancelled is not stored, and everything else is."""
    names = [f"u{number}" for number in range(120)]
    async with running(config(nats)) as sidecar:
        await keep_messages(nats)

        async def race(number: int, uid: str) -> bool:
            await sidecar.try_emit("counts", uid, uid=uid, delay="300ms")
            await asyncio.sleep(0.18 + 0.004 * number)  # spread over the time at which the server looks
            _, answer = await cancel(sidecar, "counts", uid)
            return bool(answer["cancelled"])

        results = await asyncio.gather(*(race(number, uid) for number, uid in enumerate(names)))
        left = {uid for uid, cancelled in zip(names, results, strict=True) if not cancelled}
        await until(lambda: _stored(nats, len(left)))
        await until(lambda: _nothing_waits(nats))
    assert {payload.decode() for payload, _ in await stored(nats)} == left


@pytest.mark.parametrize(
    ("event", "query", "code", "reason"),
    [
        ("nobody", {}, "404", "UNKNOWN_EVENT"),
        ("no%20event", {}, "400", "INVALID_NAME"),
        ("counts", {"limit": 0}, "400", "INVALID_REQUEST"),
        ("counts", {"limit": 501}, "400", "INVALID_REQUEST"),
        ("counts", {"cursor": "x"}, "400", "INVALID_REQUEST"),
        ("counts", {"cursor": "WyI3IiwgIjEiXQ"}, "400", "INVALID_REQUEST"),
        ("counts", {"page": 2}, "400", "INVALID_REQUEST"),
    ],
)
async def test_a_bad_question_is_refused(nats, event, query, code, reason) -> None:
    async with running(config(nats)) as sidecar:
        url = f"http://{sidecar.http}/v1/events/{event}/scheduled"
        async with sidecar.session.get(url, params=query) as response:
            told = refusal(await read_answer(response))
    assert (told.code, told.reason) == (code, reason)


async def test_a_bad_cancellation_is_refused(nats) -> None:
    async with running(config(nats)) as sidecar, stubs(sidecar.grpc) as calls:
        status, answer = await cancel(sidecar, "counts", "ü")
        assert (status, answer["reason"]) == (400, "INVALID_UID")
        status, answer = await cancel(sidecar, "nobody", "u")
        assert (status, answer["reason"]) == (404, "UNKNOWN_EVENT")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.CancelScheduled(events_pb2.CancelScheduledRequest(event="counts"))
        assert refused(caught.value).reason == "INVALID_UID"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.ListScheduled(events_pb2.ListScheduledRequest(event="counts", limit=501))
        assert refused(caught.value).reason == "INVALID_REQUEST"


@pytest.mark.parametrize("version", ["2.10.26", "2.11.11"])
async def test_servers_without_schedules_say_which_version_it_takes(version, tmp_path, looks) -> None:
    async with (
        nats_server(tmp_path / "nats", binary=binary_of(version)) as nats,
        running(config(nats)) as sidecar,
        stubs(sidecar.grpc) as calls,
    ):
        for status, answer in (await scheduled(sidecar, "counts"), await cancel(sidecar, "counts", "u")):
            assert (status, answer["reason"]) == (501, "SERVER_VERSION")
            assert "needs nats-server 2.12" in answer["detail"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls.events.ListScheduled(events_pb2.ListScheduledRequest(event="counts"))
        await looked_again(looks)
        assert not [name for name in await sidecar.metrics() if name.startswith("walnatsd_scheduled_messages")]
    told = refused(caught.value)
    assert (told.code, told.reason) == ("UNIMPLEMENTED", "SERVER_VERSION")


async def test_the_command_line_lists_and_cancels(nats) -> None:
    async with running(config(nats)) as sidecar:
        empty = await command("list", "counts", "--http", sidecar.http)
        await emit_later(sidecar, "counts", "/s 1", "two", "three")
        listed = await command("list", "counts", "--limit", "2", "--http", sidecar.http)
        as_json = await command("list", "counts", "--json", "--http", sidecar.http)
        gone = await command("cancel", "counts", "/s 1", "--http", sidecar.http)
        mixed = await command("cancel", "counts", "/s 1", "two", "--json", "--http", sidecar.http)
        again = await command("cancel", "counts", "two", "--http", sidecar.http)
        unknown = await command("list", "nobody", "--http", sidecar.http)
        assert await uids(sidecar, "counts") == ["three"]
    assert (empty.exit_code, empty.stdout) == (0, "There are no delayed emits of counts.\n")
    assert [line.split("  ")[-1].strip() for line in listed.stdout.splitlines()[:3]] == ["UID", "/s 1", "two"]
    assert "There are more; go on with --cursor " in listed.stdout
    assert [item["uid"] for item in json.loads(as_json.stdout)["items"]] == ["/s 1", "two", "three"]
    assert (gone.exit_code, last_line(gone)) == (0, "cancelled /s 1")
    assert (mixed.exit_code, json.loads(last_line(mixed))) == (
        1,
        {"items": [{"uid": "/s 1", "cancelled": False}, {"uid": "two", "cancelled": True}]},
    )
    assert (again.exit_code, again.stderr) == (1, "not cancelled, for it is due or was never there: two\n")
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("error: the event 'nobody' is not declared")


# ---- how many there are


@pytest.mark.usefixtures("looks")
async def test_how_many_wait_for_each_event_is_a_metric_that_follows_emits_cancellations_and_what_comes_due(
    nats,
) -> None:
    async with running(config(nats)) as sidecar, running(config(nats)) as other:
        await keep_messages(nats)
        await number_is(sidecar, "counts", 0)
        await emit_later(sidecar, "counts", "one", "two")
        await emit_later(other, "a.b", "three")
        for each in (sidecar, other):
            await number_is(each, "counts", 2)
            await number_is(each, "a.b", 1)
        await cancel(sidecar, "counts", "one")
        await number_is(sidecar, "counts", 1)
        assert (await sidecar.try_emit("counts", "1", uid="soon", delay="1s"))[0] == 202
        await number_is(sidecar, "counts", 2)
        await number_is(sidecar, "counts", 1)  # it came due
        await number_is(sidecar, "a.b", 1)


async def test_many_that_wait_are_counted_seldom_and_nothing_is_counted_while_nothing_changes(
    nats, monkeypatch, looks
) -> None:
    counted: list[str] = []
    count = Schedules.count

    async def noted(self: Schedules, stream: str) -> int:
        counted.append(stream)
        return await count(self, stream)

    monkeypatch.setattr(Schedules, "count", noted)
    monkeypatch.setattr(waiting, "COUNTED_PER_S", 0.001)
    async with running(config(nats)) as sidecar:
        await emit_later(sidecar, "counts", "one", "two")
        await number_is(sidecar, "counts", 2)
        await looked_again(looks)
        counted.clear()
        await emit_later(sidecar, "a.b", "three")
        await number_is(sidecar, "a.b", 1)
        await looked_again(looks)
        assert counted == ["a-b"], "the others are known to be many, and are not counted again so soon"
        await cancel(sidecar, "a.b", "three")
        await cancel(sidecar, "counts", "one")
        await number_is(sidecar, "counts", 1)  # there are fewer messages in all than there were of this event


async def test_a_deleted_event_takes_its_delayed_emits_with_it(nats) -> None:
    async with running(config_text(nats.url)) as sidecar, stubs(sidecar.grpc) as calls:
        for name in ("counts", "others"):
            declared = events_pb2.RegisterEventsRequest(events=[events_pb2.Event(name=name)])
            await calls.events.Register(declared)
            await emit_later(sidecar, name, "one")
        url = f"http://{sidecar.admin}/admin/v1/events/counts?confirm=counts"
        async with sidecar.session.delete(url) as response:
            assert response.status == 204
        assert await uids(sidecar, "others") == ["one"]
        assert await in_stream(nats) == 1


async def _stored(nats: NatsServer, count: int) -> bool:
    return await in_stream(nats, "counts") == count


async def _nothing_waits(nats: NatsServer) -> bool:
    return await in_stream(nats) == 0
