"""Dead letters for tests: made by an actor that refuses everything."""

from collections.abc import Iterable

from aiohttp import web

from support.admin import admin
from support.daemon import Sidecar, config_text
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.waiting import until


def config(nats: NatsServer, receiver: Receiver, *names: str, **options: object) -> str:
    """Actors that are called after the path of their URL."""
    actors = [
        {"name": name, "event": "counts", "url": receiver.url + name, "retry": {"delays": [0.05], "max_attempts": 2}}
        for name in names or ("print",)
    ]
    actors = [actor | options for actor in actors]
    return config_text(nats.url, events=[{"name": "counts"}], actors=actors, dead_letters={"pause_actor_after": 1000})


async def refuse(_received: Received) -> web.StreamResponse:
    return web.Response(status=422, text="no such parcel")


async def letters(sidecar: Sidecar, **query: str | int) -> list[dict[str, object]]:
    """All dead letters."""
    status, page = await admin(sidecar, "GET", "dead-letters", **query)
    assert status == 200, page
    return page["items"]


async def bury(sidecar: Sidecar, payloads: Iterable[bytes | str], *, of: int = 1) -> list[dict[str, object]]:
    """Emit messages to actors that refuse; give the dead letters once they are there."""
    payloads = list(payloads)
    for number, payload in enumerate(payloads):
        await sidecar.emit("counts", payload, uid=f"uid-{number}", headers={"ce-subject": "s"})

    async def all_died() -> list[dict[str, object]]:
        found = await letters(sidecar, limit=500)
        return found if len(found) == len(payloads) * of else []

    return await until(all_died)
