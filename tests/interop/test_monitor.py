"""Live feeds of walnatsd and of the walnats library side by side: each sees what the other emits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import walnats

from support.daemon import config_text, running
from support.feeds import watching
from support.nats_server import NatsServer

COUNT = walnats.Event("counts", int)

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # walnats' delay


@contextlib.asynccontextmanager
async def theirs(nats: NatsServer) -> AsyncIterator[tuple[walnats.types.ConnectedEvents, "asyncio.Queue[object]"]]:
    """walnats, watching; given when its subscription is known to the server."""
    async with walnats.Events(COUNT).connect(nats.url) as events:
        with _monitor(events) as queue:
            while queue.empty():  # its tasks subscribe when they get to it
                await events._nc.publish("counts", b"0")
                await asyncio.sleep(0.01)
            yield events, queue


@contextlib.contextmanager
def _monitor(events: walnats.types.ConnectedEvents) -> Iterator["asyncio.Queue[object]"]:
    with events.monitor() as queue:
        yield queue


async def test_each_sees_what_either_emits(nats, capsys) -> None:
    async with (
        running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar,
        theirs(nats) as (events, queue),
        watching(sidecar, "counts") as feed,
    ):
        await sidecar.emit("counts", "1", uid="ours")
        await events.emit(
            COUNT, 2, uid="theirs", trace_id="t", sync=True, meta=walnats.CloudEvent(id="7", source="/s", type="x")
        )
        await events.emit(COUNT, 3, delay=60)
        seen: list[object] = []
        async with asyncio.timeout(20):
            while len(seen) < 3:
                if (count := await queue.get()) != 0:  # with which its beginning was found out
                    seen.append(count)
        assert seen == [1, 2, 3]
        ours, other, delayed = [await feed.message() for _ in range(3)]
    assert (ours["data"], ours["walnatsuid"]) == (1, "ours")
    told = {
        name: other[name] for name in ("data", "walnatsuid", "walnatstrace", "id", "source", "type", "walnatsevent")
    }
    assert told == {
        "data": 2, "walnatsuid": "theirs", "walnatstrace": "t", "id": "7", "source": "/s", "type": "x",
        "walnatsevent": "counts",
    }  # fmt: skip
    assert delayed["data"] == 3
    assert not {"walnatsuid", "walnatstrace"} & set(delayed)
