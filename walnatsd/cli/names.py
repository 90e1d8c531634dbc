"""Names of events and actors for the shell's completion, from the daemon that answers."""

import json
import os
from typing import Any

import click

from walnatsd.cli.address import TOKEN_VARIABLE, Address
from walnatsd.cli.admin_client import DEFAULT_ADMIN
from walnatsd.cli.http_client import DaemonUnreachableError, exchange

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
    """Ask the admin address; nothing where nobody answers, for a completion has no place for errors."""
    options = {option for each in context.command.params for option in each.opts}
    given = context.params.get("address") if "--admin" in options else None
    address = Address(given or DEFAULT_ADMIN, os.environ.get(TOKEN_VARIABLE, "").strip() or None)
    path = f"/admin/v1/{what}?limit=500"
    try:
        answer = exchange(address, "GET", path, b"", {}, option="--admin", timeout_s=TIMEOUT_S)
        items: list[dict[str, Any]] = json.loads(answer.body)["items"]
    except (DaemonUnreachableError, ValueError, KeyError, TypeError):
        return []
    return items
