"""The spool over HTTP: `/admin/v1/spool`."""

from typing import Any

from aiohttp import web

from walnatsd.api.pages import read_limit
from walnatsd.payload.cloudevents import rfc3339
from walnatsd.servers import admin_operations as operations
from walnatsd.servers.answers import json_answer
from walnatsd.servers.office import Office
from walnatsd.servers.operations import number_in_path, serve
from walnatsd.spool.spool import Spool
from walnatsd.spool.store import SetAside


def add_spool(app: web.Application, office: Office) -> None:
    """Add the paths for the spool to an application."""

    async def status(_request: web.Request) -> web.Response:
        spool = office.spool.spool
        return json_answer({"enabled": False} if spool is None else _status(spool))

    async def listing(request: web.Request) -> web.Response:
        page, cursor = await office.spool.page(
            limit=read_limit(request.query.get("limit")), cursor=request.query.get("cursor")
        )
        return json_answer({"items": [_item(each) for each in page], "next_cursor": cursor})

    async def retry(request: web.Request) -> web.Response:
        await office.spool.retry(_id(request))
        return web.Response(status=204)

    async def discard(request: web.Request) -> web.Response:
        await office.spool.discard(_id(request))
        return web.Response(status=204)

    serve(app, operations.SHOW_SPOOL, status)
    serve(app, operations.LIST_SET_ASIDE, listing)
    serve(app, operations.RETRY_SET_ASIDE, retry)
    serve(app, operations.DISCARD_SET_ASIDE, discard)


def _id(request: web.Request) -> int:
    return number_in_path(request, "id", "a message in the spool")


def _status(spool: Spool) -> dict[str, Any]:
    return {
        "enabled": True,
        "path": spool.settings.path,
        "messages": spool.messages,
        "bytes": spool.bytes,
        "max_bytes": spool.settings.max_bytes,
        "oldest_age_s": round(spool.oldest_age_s, 3),
        "max_age_s": spool.settings.max_age,
        "refuses_because": spool.full_because(1) or None,
        "set_aside": spool.set_aside_messages,
        "events": [
            {
                "event": event,
                "messages": queue.messages,
                "bytes": queue.bytes,
                "oldest_age_s": round(spool.age_of(queue), 3),
                "waits_for": queue.waits_for or None,
            }
            for event, queue in sorted(spool.queues.items())
        ],
    }


def _item(aside: SetAside) -> dict[str, Any]:
    entry = aside.kept.entry
    return {
        "id": aside.kept.id,
        "event": entry.event,
        "uid": entry.uid,
        "payload_bytes": len(entry.payload),
        "emitted_at": rfc3339(entry.emitted_at),
        "set_aside_at": rfc3339(aside.set_aside_at),
        "reason": aside.reason,
        "detail": aside.detail,
    }
