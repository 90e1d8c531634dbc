"""Names of events and actors for the shell's completion and for hints, from the daemon that answers."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import click

from walnatsd.cli.address import TOKEN_VARIABLE, Address
from walnatsd.cli.admin_client import DEFAULT_ADMIN, FailedError
from walnatsd.cli.http_client import DEFAULT_HTTP, DaemonUnreachableError, exchange
from walnatsd.cli.shown import did_you_mean

TIMEOUT_S = 1.0
"""Whoever presses Tab does not wait longer."""


def events(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Give the events that begin so."""
    return sorted(item["name"] for item in _items(context, "events") if item["name"].startswith(begun))


def actors(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Give the actors that begin so; of the event, where one is given."""
    event = context.params.get("event")
    return sorted(
        {
            item["name"]
            for item in _items(context, "actors")
            if item["name"].startswith(begun) and event in (None, item["event"])
        }
    )


def _items(context: click.Context, what: str) -> list[dict[str, Any]]:
    options = {option for each in context.command.params for option in each.opts}
    given = context.params.get("address") if "--admin" in options else None
    return _known(Address(given or DEFAULT_ADMIN, os.environ.get(TOKEN_VARIABLE, "").strip() or None), what)


def _known(address: Address, what: str) -> list[dict[str, Any]]:
    """Ask the admin address; nothing where nobody answers, for neither a completion nor a hint has a place for errors."""
    path = f"/admin/v1/{what}?limit=500"
    try:
        answer = exchange(address, "GET", path, b"", {}, option="--admin", timeout_s=TIMEOUT_S)
        items: list[dict[str, Any]] = json.loads(answer.body)["items"]
    except (DaemonUnreachableError, ValueError, KeyError, TypeError):
        return []
    return items


# ---- hints


@contextlib.contextmanager
def hinting(admin: Address | None, event: str, actor: str | None = None) -> Iterator[None]:
    """Where the body fails because there is no such event or actor, say which one may be meant."""
    try:
        yield
    except FailedError as error:
        raise FailedError(error.message + hint(admin, error.problem, event, actor), error.problem) from None


def hint(admin: Address | None, problem: Mapping[str, Any], event: str, actor: str | None = None) -> str:
    """Say which event or actor may be meant, as a sentence behind why the daemon refused; else nothing.

    Args:
        admin: The admin address, which alone knows names; None where it is not known.
        problem: Why the daemon refused.
        event: The name that was given.
        actor: That of the actor; None where it is about an event.
    """
    if admin is None or problem.get("reason") not in _UNKNOWN:
        return ""
    events = [item["name"] for item in _known(admin, "events")]
    if event not in events:
        return did_you_mean(event, events)
    actors = [item["name"] for item in _known(admin, "actors") if item["event"] == event]
    return did_you_mean(actor, actors) if actor is not None and actor not in actors else ""


def admin_beside(address: Address) -> Address | None:
    """Give the admin address of the daemon with this http address, where both are where they are by default."""
    return replace(address, text=DEFAULT_ADMIN) if address.text == DEFAULT_HTTP else None


_UNKNOWN = frozenset({"UNKNOWN_EVENT", "UNKNOWN_ACTOR", "CONFLICT"})
"""Reasons behind which there may be a wrong name. Of these, a replay to an actor that is not there is a conflict."""
