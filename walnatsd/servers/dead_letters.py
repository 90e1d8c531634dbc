"""Dead letters over HTTP: `/admin/v1/dead-letters`, section 4 of the contract."""

import base64
from typing import Any

from aiohttp import web

from walnatsd.api.pages import read_limit
from walnatsd.broker.dead_letter_stream import DeadLetter
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.cloudevents import content_type, rfc3339
from walnatsd.servers import admin_operations as operations
from walnatsd.servers.answers import json_answer
from walnatsd.servers.office import Office
from walnatsd.servers.operations import number_in_path, serve


def add_dead_letters(app: web.Application, office: Office) -> None:
    """Add the paths for dead letters to an application."""

    async def listing(request: web.Request) -> web.Response:
        query = request.query
        letters, cursor = await office.dead_letters.page(
            query.get("event"), query.get("actor"), limit=read_limit(query.get("limit")), cursor=query.get("cursor")
        )
        return json_answer({"items": [_item(letter) for letter in letters], "next_cursor": cursor})

    async def show(request: web.Request) -> web.Response:
        return json_answer(_whole(await office.dead_letters.show(_sequence(request))))

    async def replay(request: web.Request) -> web.Response:
        letter = await office.dead_letters.replay(_sequence(request))
        return json_answer(
            {
                "sequence": letter.sequence,
                "event": letter.message.event,
                "actor": letter.actor,
                "uid": letter.message.uid,
                "replay": letter.message.replay + 1,
            }
        )

    async def replay_many(request: web.Request) -> web.Response:
        query = request.query
        event, actor = query.get("event"), query.get("actor")
        if not event or not actor:
            raise Refusal(Reason.INVALID_REQUEST, "event and actor are required: say whose dead letters to replay")
        replays = await office.dead_letters.replay_many(
            event, actor, limit=read_limit(query.get("limit")), cursor=query.get("cursor")
        )
        failures = [{"sequence": sequence, "detail": detail} for sequence, detail in replays.failures]
        return json_answer(
            {
                "replayed": replays.replayed,
                "failed": len(failures),
                "failures": failures,
                "next_cursor": replays.next_cursor,
            }
        )

    async def discard(request: web.Request) -> web.Response:
        await office.dead_letters.discard(_sequence(request))
        return web.Response(status=204)

    serve(app, operations.LIST_DEAD_LETTERS, listing)
    serve(app, operations.REPLAY_MANY, replay_many)
    serve(app, operations.SHOW_DEAD_LETTER, show)
    serve(app, operations.REPLAY, replay)
    serve(app, operations.DISCARD, discard)


def _sequence(request: web.Request) -> int:
    return number_in_path(request, "sequence", "a dead letter")


def _item(letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    return {
        "sequence": letter.sequence,
        "event": message.event,
        "actor": letter.actor,
        "uid": message.uid,
        "message_sequence": message.sequence,
        "stored_at": rfc3339(message.stored_at),
        "last_attempt_at": letter.last_attempt_at,
        "died_at": rfc3339(letter.died_at),
        "reason": letter.reason,
        "status": letter.status,
        "attempts": letter.attempts,
        "replay": message.replay,
        "content_type": content_type(message.headers),
        "payload_bytes": len(message.payload),
        "truncated": letter.truncated,
    }


def _whole(letter: DeadLetter) -> dict[str, Any]:
    return {
        **_item(letter),
        "headers": letter.message.headers,
        **_payload(letter.message.payload),
        "history": letter.history,
    }


def _payload(payload: bytes) -> dict[str, str]:
    """Write it as `payload` where it is text, else as `payload_base64`."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}
