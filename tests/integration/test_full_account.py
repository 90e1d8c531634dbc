"""What a NATS account that is full answers, and that nothing else suffers from it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import config_text, running
from support.nats_server import NatsServer, nats_server
from support.streams import keep_messages, stored
from support.waiting import until

ACTOR = {"name": "print", "event": "counts", "url": "http://127.0.0.1:1/"}


@contextlib.asynccontextmanager
async def account_with(folder: Path, **limits: int) -> AsyncIterator[NatsServer]:
    """A server whose only account has limits of its own."""
    user = {"user": "team", "password": "secret"}
    accounts = {"TEAM": {"users": [user], "jetstream": {"max_mem": 1 << 20, "max_file": 1 << 20} | limits}}
    async with nats_server(folder, options={"accounts": accounts, "no_auth_user": "team"}) as nats:
        yield nats


def text_for(nats: NatsServer, *events: str, **parts: Any) -> str:
    return config_text(
        nats.url,
        events=[{"name": name} for name in events],
        dead_letters={"bytes": 10_000},
        emit={"timeout": 2},
        **parts,
    )


async def test_without_room_for_messages_an_emit_is_refused_and_nothing_is_said_to_be_stored(tmp_path) -> None:
    async with account_with(tmp_path, max_file=60_000) as nats, running(text_for(nats, "counts")) as sidecar:
        await keep_messages(nats)
        answers = [await sidecar.try_emit("counts", "x" * 20_000, uid=f"u{number}") for number in range(4)]
        kept = len(await stored(nats))
    assert 0 < kept < 4
    assert [status for status, _ in answers] == [201] * kept + [503] * (4 - kept)
    problem = answers[-1][1]
    assert (problem["reason"], problem["maybe_stored"]) == ("NATS_UNAVAILABLE", False)
    assert "the account, has no storage left" in problem["detail"]


FULL_OF_CONSUMERS = "limits.consumers of the event, or max_consumers of the NATS account, is reached by"


@pytest.mark.parametrize(
    ("limits", "events", "actors", "words"),
    [
        # three may be walnatsd's own; they are all made at the same time, so any of these may find no room
        ({"max_streams": 4}, ["counts", "more", "most", "one", "two"], [], "maximum number of streams reached"),
        ({"max_consumers": 1}, ["counts"], ["print", "another"], FULL_OF_CONSUMERS),
    ],
    ids=["streams", "consumers"],
)
async def test_what_has_no_room_is_named_where_readiness_is_told_and_the_rest_works(
    tmp_path, limits, events, actors, words
) -> None:
    parts = [f"actor {name} of counts" for name in actors] or [f"event {name}" for name in events]
    async with account_with(tmp_path, **limits) as nats:
        text = text_for(nats, *events, actors=[ACTOR | {"name": name} for name in actors])
        async with running(text, ready=False) as sidecar:

            async def told() -> list[str]:
                status, problems = await sidecar.readiness()
                return [part for part in parts if words in problems.get(part, "")] if status == 503 else []

            async def takes_some() -> bool:
                full = await told()
                rest = [event for event in events if f"event {event}" not in full]
                return 201 in [(await sidecar.try_emit(event, "1"))[0] for event in rest]

            await until(told)
            await until(takes_some)
            assert 0 < len(await told()) < len(parts)
