"""Administration over HTTP: `/admin/v1/`, section 4 of the contract."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from walnatsd.api.administration import ActorStatus, EventStatus
from walnatsd.api.pages import page_of, read_limit
from walnatsd.clocks.keeper import ClockStatus
from walnatsd.model.names import stream_name
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.cloudevents import rfc3339
from walnatsd.servers import admin_operations as operations
from walnatsd.servers.answers import json_answer
from walnatsd.servers.office import Office
from walnatsd.servers.operations import serve


def add_administration(app: web.Application, office: Office) -> None:
    """Add the paths for events, actors and the reload to an application."""

    async def events(request: web.Request) -> web.Response:
        names, cursor = page_of(office.administration.event_names(), **_page(request))
        return json_answer(
            {"items": [_event(await office.administration.event(name)) for name in names], "next_cursor": cursor}
        )

    async def actors(request: web.Request) -> web.Response:
        names, cursor = page_of(office.administration.actor_names(), **_page(request))
        actors, dead = await office.administration.actors(names), await office.overview.dead_letters()
        return json_answer({"items": [_actor(each, dead) for each in actors], "next_cursor": cursor})

    async def pause(request: web.Request) -> web.Response:
        event, actor = request.match_info["event"], request.match_info["actor"]
        until = _until(request.query.get("until"))
        everywhere = await office.administration.pause(event, actor, until)
        return json_answer(
            {"paused": True, "until": rfc3339(until.timestamp()) if until else None, "everywhere": everywhere}
        )

    async def resume(request: web.Request) -> web.Response:
        everywhere = await office.administration.resume(request.match_info["event"], request.match_info["actor"])
        return json_answer({"paused": False, "until": None, "everywhere": everywhere})

    async def delete_actor(request: web.Request) -> web.Response:
        await office.administration.delete_actor(request.match_info["event"], request.match_info["actor"])
        return web.Response(status=204)

    async def delete_event(request: web.Request) -> web.Response:
        await office.administration.delete_event(request.match_info["event"], confirm=request.query.get("confirm", ""))
        return web.Response(status=204)

    async def reload_file(_request: web.Request) -> web.Response:
        reloaded = await office.reload.run()
        return json_answer({"added": reloaded.added, "changed": reloaded.changed, "removed": reloaded.removed})

    serve(app, operations.LIST_EVENTS, events)
    serve(app, operations.DELETE_EVENT, delete_event)
    serve(app, operations.LIST_ACTORS, actors)
    serve(app, operations.PAUSE, pause)
    serve(app, operations.RESUME, resume)
    serve(app, operations.DELETE_ACTOR, delete_actor)
    serve(app, operations.RELOAD, reload_file)


def _page(request: web.Request) -> dict[str, Any]:
    return {"limit": read_limit(request.query.get("limit")), "cursor": request.query.get("cursor")}


def _until(text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        until = dt.datetime.fromisoformat(text)
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        raise Refusal(Reason.INVALID_TIME, f"until is a time with a zone, like 2026-12-24T18:00:00Z, not {text[:50]!r}")
    if until <= dt.datetime.now(dt.UTC):
        raise Refusal(Reason.INVALID_TIME, f"until must be in the future, {text} is not")
    return until


def _event(status: EventStatus) -> dict[str, Any]:
    event = status.event
    return {
        "name": event.name,
        "stream": event.stream,
        "description": event.description,
        "declared": "file" if status.in_file else "grpc",
        "exists": status.messages is not None,
        "messages": status.messages,
        "bytes": status.bytes,
        "actors": status.actors,
        "others": status.others,
        "orphans": status.orphans,
        "clock": _clock(status.clock) if status.clock is not None else None,
        "drift": status.drift,
    }


def _clock(status: ClockStatus) -> dict[str, Any]:
    clock = status.clock
    return {
        "every": clock.every,
        "cron": clock.cron,
        "timezone": clock.timezone,
        "next_tick_at": rfc3339(status.next_tick_at) if status.next_tick_at is not None else None,
        "problem": status.problem,
        "drift": status.drift,
    }


def _actor(status: ActorStatus, dead: Mapping[tuple[str, str], int] | None) -> dict[str, Any]:
    consumer, here = status.consumer, status.here
    paused_for_s = consumer.paused_for_s if consumer is not None else 0.0
    return {
        "event": status.event,
        "name": status.name,
        "url": status.url,
        "declared": "file" if status.in_file else "grpc",
        "exists": consumer is not None,
        "state": "missing" if consumer is None else "paused" if paused_for_s else here.gate,
        "in_flight": here.in_flight,
        "window": here.window,
        "breaker": here.breaker,
        "pending": consumer.pending if consumer is not None else None,
        "ack_pending": consumer.ack_pending if consumer is not None else None,
        "redelivered": consumer.redelivered if consumer is not None else None,
        "waiting": consumer.waiting_pulls if consumer is not None else None,
        "oldest_age_s": round(status.oldest_age_s, 3) if status.oldest_age_s is not None else None,
        "dead_letters": dead.get((stream_name(status.event), status.name), 0) if dead is not None else None,
        "paused": bool(paused_for_s) or here.gate == "paused",
        "paused_for_s": round(paused_for_s, 3) or None,
        "paused_until": status.paused_until,
        "pause_reason": status.pause_reason,
        "orphans": status.orphans,
        "drift": status.drift,
    }
