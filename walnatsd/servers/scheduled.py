"""Delayed emits over HTTP: `/v1/events/{event}/scheduled`, section 4 of the contract."""

from aiohttp import web

from walnatsd.api.events import Events
from walnatsd.api.pages import read_limit
from walnatsd.payload.cloudevents import rfc3339
from walnatsd.servers.answers import json_answer
from walnatsd.servers.http_operations import CANCEL_SCHEDULED, LIST_SCHEDULED
from walnatsd.servers.operations import serve


def serve_scheduled(app: web.Application, events: Events) -> None:
    """Serve the calls for delayed emits."""

    async def listing(request: web.Request) -> web.Response:
        query = request.query
        items, cursor = await events.scheduled.page(
            request.match_info["event"], limit=read_limit(query.get("limit")), cursor=query.get("cursor")
        )
        told = [{"event": item.event, "uid": item.uid, "deliver_at": rfc3339(item.due_at)} for item in items]
        return json_answer({"items": told, "next_cursor": cursor})

    async def cancel(request: web.Request) -> web.Response:
        cancelled = await events.scheduled.cancel(request.match_info["event"], request.match_info["uid"])
        return json_answer({"cancelled": cancelled})

    serve(app, LIST_SCHEDULED, listing)
    serve(app, CANCEL_SCHEDULED, cancel)
