"""The least that a sidecar's NATS user must be allowed: with it everything works, and each line of it is needed."""

import contextlib
import re
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from support.admin import admin
from support.buried import letters
from support.daemon import Sidecar, config_text, running
from support.feeds import watching
from support.nats_server import NatsServer, nats_server
from support.receiver import Received, Receiver
from support.waiting import until
from walnatsd.broker.denied import PAGE
from walnatsd.broker.embedded import find_binary
from walnatsd.broker.permissions import permissions
from walnatsd.cli import main
from walnatsd.config.load import load_text

OURS = "_INBOX_shop"
PASSWORD = "sesame"


DUE, GIVEN_UP = "walnatsd.due", "walnatsd-max-deliveries.walnatsd"
ORDERED = {"order_by": "/key"}


def text_for(
    nats: NatsServer | None, receiver: Receiver | None, folder: Path, actor: dict[str, Any], **nats_options: Any
) -> str:
    """A config that uses everything."""
    (folder / "password").write_text(PASSWORD)
    options = {
        "user": "shop", "password": {"file": str(folder / "password")},
        "inbox_prefix": OURS, "reply_prefixes": [f"{OURS}."],
    }  # fmt: skip
    told = {
        "name": "Print", "event": "counts", "url": receiver.url if receiver is not None else "http://127.0.0.1:1/",
        "responds": True, "retry": {"delays": [0.05]},
    }  # fmt: skip
    return config_text(
        nats.url if nats is not None else "nats://127.0.0.1:1",
        nats=options | nats_options,
        events=[{"name": "counts", "description": "ours"}],
        actors=[told | actor],
        clocks=[{"event": "counts", "every": 1}],
        emit={"timeout": 4},
    )


def allowed(text: str, *, deletions: bool = False) -> tuple[list[str], list[str]]:
    groups = [
        group for group in permissions(load_text(text, file=None, environ={}).config) if deletions or not group.seldom
    ]
    return (
        [subject for group in groups for subject in group.publish],
        [subject for group in groups for subject in group.subscribe],
    )


def server_options(publish: list[str], subscribe: list[str]) -> dict[str, Any]:
    """A server where who says nothing may do everything, and the sidecar only what is given."""
    ours = {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}}
    users = [{"user": "operator", "password": "x"}, {"user": "shop", "password": PASSWORD, "permissions": ours}]
    return {"authorization": {"users": users}, "no_auth_user": "operator", "trace": True}


@contextlib.asynccontextmanager
async def server_for(folder: Path, publish: list[str], subscribe: list[str]) -> AsyncIterator[NatsServer]:
    async with nats_server(folder / "nats", options=server_options(publish, subscribe)) as server:
        yield server


async def answer(received: Received) -> web.StreamResponse:
    """Refuse what shall die, but not when it is replayed; fail once at what shall come once more."""
    if b"once more" in received.body and received.attempt == 1:
        return web.Response(status=500)
    if b"die" in received.body and "walnats-replay" not in received.headers:
        return web.Response(status=422)
    return web.json_response({"answer": 1})


async def seen(receiver: Receiver, body: bytes, header: str = "") -> bool:
    return any(each.body == body and (not header or header in each.headers) for each in receiver.received)


async def do_everything(sidecar: Sidecar, nats: NatsServer, receiver: Receiver, *, in_order: bool) -> None:
    """Emit, deliver, bury, replay, discard, delay, cancel, call, watch, tick, park, pause, and be limited by somebody."""
    async with watching(sidecar, "counts") as feed:
        await sidecar.emit("counts", "1")
        assert await until(lambda: sees(feed, 1))
    await until(lambda: seen(receiver, b"1"))
    for payload, method, rest in (('"die"', "POST", "/replay"), ('"die again"', "DELETE", "")):
        await sidecar.emit("counts", payload)
        [letter] = await until(lambda: letters(sidecar))
        assert (await admin(sidecar, "GET", f"dead-letters/{letter['sequence']}"))[0] == 200
        status, told = await admin(sidecar, method, f"dead-letters/{letter['sequence']}{rest}")
        assert status in (200, 204), told
        await until(lambda: no_letters(sidecar))
    await until(lambda: seen(receiver, b'"die"', "walnats-replay"))
    await delay(sidecar, receiver)
    url = f"http://{sidecar.http}/v1/events/counts/request"
    async with sidecar.session.post(url, data=b"2") as response:
        assert (response.status, await response.json()) == (200, {"answer": 1})
    await until(lambda: any(each.headers.get("ce-id", "").startswith("clock:") for each in receiver.received))
    await pause(sidecar)
    if not in_order:
        await be_limited(sidecar, nats, receiver)
        await wait_long(nats)  # in order, a message that waits stays in its place


async def sees(feed: Any, data: object) -> bool:
    """Whether the next message of a feed is that; a clock ticks beside it."""
    return (await feed.message()).get("data") == data


async def no_letters(sidecar: Sidecar) -> bool:
    return not await letters(sidecar)


async def delay(sidecar: Sidecar, receiver: Receiver) -> None:
    for payload, options in (('"soon"', {"delay": "1s"}), ('"late"', {"delay": "1h", "uid": "late"})):
        assert (await sidecar.try_emit("counts", payload, **options))[0] == 202
    url = f"http://{sidecar.http}/v1/events/counts/scheduled"
    async with sidecar.session.get(url) as response:
        assert response.status == 200
    async with sidecar.session.delete(f"{url}/late") as response:
        assert response.status == 200
    await until(lambda: seen(receiver, b'"soon"'))


async def pause(sidecar: Sidecar) -> None:
    assert (await admin(sidecar, "POST", "actors/counts/Print/pause"))[0] == 200
    await sidecar.emit("counts", '"paused"')
    status, told = await admin(sidecar, "GET", "actors")
    assert status == 200
    assert told["items"][0]["oldest_age_s"] is not None
    assert (await admin(sidecar, "GET", "events"))[0] == 200
    assert (await admin(sidecar, "POST", "actors/counts/Print/resume"))[0] == 200


async def be_limited(sidecar: Sidecar, nats: NatsServer, receiver: Receiver) -> None:
    """Have somebody limit the deliveries of the consumer, so that the server gives a message up."""
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "Print")
        info.config.max_deliver = 1
        await jetstream.add_consumer("counts", info.config)
    await sidecar.emit("counts", '"once more"')
    await until(lambda: twice(receiver, b'"once more"'))


async def twice(receiver: Receiver, body: bytes) -> bool:
    return sum(each.body == body for each in receiver.received) >= 2


async def wait_long(nats: NatsServer) -> None:
    """Have a message parked, which the sidecar does where somebody else asked for a long delay."""
    async with nats.jetstream() as jetstream:
        await jetstream.publish("counts", b"3", headers={"Walnats-Delay": str(time.time() + 100)})

        async def is_parked() -> bool:
            info = await jetstream.stream_info("walnatsd", subjects_filter="walnatsd.schedule.walnatsd.>")
            return bool(info.state.subjects)

        await until(is_parked)


# ---- everything works with it, and nothing of it is too much


def used(nats: NatsServer) -> tuple[set[str], set[str]]:
    """What the sidecar has published and subscribed to, in the trace of the server."""
    published, subscribed = set(), set()
    log, ours = (nats.folder / "nats.log").read_text(), set()
    for client, verb, rest in re.findall(r"\[TRC\] \S+ - (cid:\d+).*?<<- \[(CONNECT|H?PUB|SUB) ([^\n]*)", log):
        if verb == "CONNECT":
            ours.discard(client)  # after a restart the numbers begin again
            if '"name": "walnatsd/tests"' in rest or '"name":"walnatsd/tests"' in rest:
                ours.add(client)
        elif client in ours:
            (subscribed if verb == "SUB" else published).add(rest.split(" ")[0])
    return published, subscribed


def matches(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">" and len(given) >= len(wanted):
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and all(one in ("*", other) for one, other in zip(wanted, given, strict=True))


@pytest.mark.parametrize("actor", [{}, ORDERED], ids=["parallel", "in order"])
async def test_everything_works_with_the_least_and_each_line_of_it_is_needed(tmp_path, receiver, actor) -> None:
    """A line is needed where the server sees the sidecar use it, and no other line allows the same."""
    receiver.answer = answer
    publish, subscribe = allowed(text_for(None, None, tmp_path, actor))
    published, subscribed = set[str](), set[str]()
    for begin in (nothing, older_streams):
        async with server_for(tmp_path / begin.__name__, publish, subscribe) as nats:
            await begin(nats)
            async with running(text_for(nats, receiver, tmp_path, actor)) as sidecar:
                if begin is nothing:
                    await do_everything(sidecar, nats, receiver, in_order=bool(actor))
                await until(lambda nats=nats: pulls(nats) >= {DUE, GIVEN_UP, "counts.Print"})
                await nats.stop()
                await nats.start()
                await until(sidecar.is_ready)
                await until(lambda nats=nats: looks_for_its_consumers(nats))
                last = begin.__name__.encode()
                await sidecar.emit("counts", b'"%s"' % last)
                await until(lambda last=last: seen(receiver, b'"%s"' % last))  # an ordered actor is served again
                assert (await sidecar.metrics())["walnatsd_nats_denied_total"] == 0
            more_published, more_subscribed = used(nats)
            published |= more_published
            subscribed |= more_subscribed
    if actor:  # the other lines are looked at without it
        usual = allowed(text_for(None, None, tmp_path, {}))[0]
        publish = [line for line in publish if line not in usual]
        assert publish == ["$JS.API.CONSUMER.UNPIN.counts.Print"]
    for lines, subjects in ((publish, published), (subscribe, subscribed)):
        for line in lines:
            others = [other for other in lines if other != line]
            alone = [it for it in subjects if matches(line, it) and not any(matches(other, it) for other in others)]
            assert alone, f"{line} is not needed"


async def nothing(_nats: NatsServer) -> None:
    """Have an empty server."""


async def older_streams(nats: NatsServer) -> None:
    """Have streams that must be updated, instead of created."""
    async with nats.jetstream() as jetstream:
        await jetstream.add_stream(name="counts", subjects=["counts"], retention="interest", description="theirs")
        await jetstream.add_stream(name="walnatsd", subjects=["walnatsd.schedule.>"], retention="workqueue")
        await jetstream.add_stream(name="walnatsd-dead-letters", subjects=["walnatsd.dead-letter.>"], max_age=5)
        await jetstream.add_stream(name="walnatsd-max-deliveries", subjects=["x.none"], retention="workqueue")


def pulls(nats: NatsServer) -> set[str]:
    """The consumers that the sidecar has pulled from, each after its stream."""
    return {it.partition(".MSG.NEXT.")[2] for it in used(nats)[0] if ".MSG.NEXT." in it}


def looks_for_its_consumers(nats: NatsServer) -> bool:
    """Whether all pulls have seen, as they do after a reconnect, that their consumers are still there."""
    published, _ = used(nats)
    return all(f"$JS.API.CONSUMER.INFO.{consumer}" in published for consumer in pulls(nats))


async def test_what_is_managed_elsewhere_needs_less(tmp_path, receiver) -> None:
    """Streams and consumers that an operator registered are served without the right to create or change streams."""
    receiver.answer = answer
    rights = {"manage": {"create": False, "update": False}}
    publish, subscribe = allowed(text_for(None, None, tmp_path, {}, **rights))
    full, _ = allowed(text_for(None, None, tmp_path, {}))
    assert set(full) - set(publish) == {"$JS.API.STREAM.CREATE.counts", "$JS.API.STREAM.UPDATE.counts"}
    async with server_for(tmp_path, publish, subscribe) as nats:
        operator = text_for(nats, receiver, tmp_path, {}, user=None, password=None)
        async with running(operator):
            pass
        async with running(text_for(nats, receiver, tmp_path, {}, **rights)) as sidecar:
            await sidecar.emit("counts", "1")
            await until(lambda: seen(receiver, b"1"))
            assert (await sidecar.metrics())["walnatsd_nats_denied_total"] == 0


# ---- what lacks is named


@contextlib.asynccontextmanager
async def running_without(line: str, folder: Path, receiver: Receiver) -> AsyncIterator[Sidecar]:
    receiver.answer = answer
    text = text_for(None, None, folder, {})
    publish, subscribe = ([each for each in lines if each != line] for lines in allowed(text))
    async with (
        server_for(folder, publish, subscribe) as nats,
        running(text_for(nats, receiver, folder, {}), ready=False) as sidecar,
    ):
        yield sidecar


NAMED = f"allow it ({PAGE})"


@pytest.mark.parametrize(
    "line",
    ["$JS.API.STREAM.CREATE.walnatsd", "$JS.API.STREAM.INFO.counts", "$JS.API.STREAM.CREATE.counts",
     "$JS.API.CONSUMER.CREATE.counts.Print"],
)  # fmt: skip
async def test_what_lacks_for_registering_is_named_where_readiness_is_told(tmp_path, receiver, line) -> None:
    async with running_without(line, tmp_path, receiver) as sidecar:

        async def is_told() -> bool:
            problems = (await sidecar.readiness())[1].values()
            return any(f"NATS does not let this user publish to {line!r}; {NAMED}" in each for each in problems)

        await until(is_told, timeout_s=30)


async def test_what_lacks_for_an_inbox_is_named(tmp_path, receiver, capsys) -> None:
    async with running_without(f"{OURS}.>", tmp_path, receiver):
        words = f"NATS does not let this user subscribe to '{OURS}.>'; {NAMED}"
        await until(lambda: words in capsys.readouterr().out)


async def test_what_lacks_for_an_emit_is_named_in_its_refusal(tmp_path, receiver) -> None:
    async with running_without("counts", tmp_path, receiver) as sidecar:
        await until(sidecar.is_ready)
        status, told = await sidecar.try_emit("counts", "1")
    assert (status, told["reason"]) == (503, "NATS_UNAVAILABLE")
    assert f"NATS does not let this user publish to 'counts'; {NAMED}" in told["detail"]


@pytest.mark.parametrize(
    "line",
    ["$JS.API.CONSUMER.MSG.NEXT.counts.Print", "$JS.ACK.counts.Print.>", "walnatsd.dead-letter.counts.Print"],
)
async def test_what_lacks_for_a_delivery_is_named_in_the_log_and_counted(tmp_path, receiver, capsys, line) -> None:
    async with running_without(line, tmp_path, receiver) as sidecar:
        await until(sidecar.is_ready)
        await sidecar.emit("counts", '"die"')
        log = ""

        def is_told() -> bool:
            nonlocal log
            log += capsys.readouterr().out
            return f"NATS does not let this user publish to {line!r}; {NAMED}" in log

        await until(is_told)
        assert (await sidecar.metrics())["walnatsd_nats_denied_total"] >= 1


# ---- the command, and the page


def printed(text: str) -> tuple[list[str], list[str]]:
    """The subjects of the two lists, without what is a comment."""
    publish, subscribe = text.split("subscribe: {")
    return re.findall(r'^ +"([^"]+)"$', publish, re.MULTILINE), re.findall(r'^ +"([^"]+)"$', subscribe, re.MULTILINE)


def test_the_command_prints_the_list_as_nats_server_reads_it(tmp_path) -> None:
    text = text_for(None, None, tmp_path, {})
    (tmp_path / "walnatsd.yaml").write_text(text)
    ended = CliRunner().invoke(main, ["docs", "nats-permissions", "-c", str(tmp_path / "walnatsd.yaml")])
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert printed(ended.stdout) == allowed(text)
    assert '    # "$JS.API.STREAM.DELETE.counts"\n' in ended.stdout
    (tmp_path / "nats.conf").write_text(
        f"authorization {{ users: [ {{ user: shop, password: x, {ended.stdout} }} ] }}\njetstream: {{}}\n"
    )
    checked = subprocess.run(
        [find_binary(), "-t", "-c", str(tmp_path / "nats.conf")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_the_page_shows_what_the_command_prints_for_its_example(tmp_path) -> None:
    page = (Path(__file__).parents[2] / PAGE).read_text()
    [config] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    [shown] = re.findall(r"```conf\n(.*?)```", page, re.DOTALL)
    (tmp_path / "walnatsd.yaml").write_text(config)
    ended = CliRunner().invoke(main, ["docs", "nats-permissions", "-c", str(tmp_path / "walnatsd.yaml")])
    assert shown == ended.stdout
