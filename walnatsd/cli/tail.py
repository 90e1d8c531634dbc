"""`walnatsd tail`."""

import base64
import http.client
import json
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.http_client import Answer, DaemonUnreachableError, detail_of, opened, problem_of
from walnatsd.cli.message_options import http_option, path_of
from walnatsd.cli.shown import harmless

FAILED, INTERRUPTED = 1, 130
SILENCE_S = 60.0
"""The daemon writes something at least every 15 s."""
MAX_WAITING = 1000
COLOURS = ("cyan", "green", "yellow", "magenta", "blue")

Told = tuple[str, str, str]
"""Which event's feed, what kind of thing, and the thing."""


@click.command("tail")
@click.argument("events", shell_complete=names.events, metavar="EVENT...", nargs=-1, required=True)
@http_option
@click.option("--json", "as_json", is_flag=True, help="Print each message as a CloudEvent in JSON, one a line.")
def command(events: tuple[str, ...], address: Address, as_json: bool) -> None:
    """Watch what is emitted as any EVENT, as it is emitted, until interrupted. Nothing is stored for it.

    What is shown is published, not necessarily stored: duplicates are seen too.
    """
    told: queue.Queue[Told] = queue.Queue(MAX_WAITING)  # full, it lets the daemon wait, which drops who is too slow
    for event in dict.fromkeys(events):
        threading.Thread(target=_watch, args=(address, event, told), daemon=True).start()
    colours = {event: COLOURS[number % len(COLOURS)] for number, event in enumerate(events)}
    try:
        while True:
            event, kind, what = told.get()
            if kind == "message":
                click.echo(
                    _on_one_line(what) if as_json else _readable(json.loads(what), colours[event]), color=_colour()
                )
            else:
                click.echo(what, err=True)
            if kind == "end":
                sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _watch(address: Address, event: str, told: "queue.Queue[Told]") -> None:
    """Read one feed to its end."""
    try:
        with opened(address, "GET", path_of(event, "monitor"), b"", {}, timeout_s=SILENCE_S) as response:
            if response.status != http.client.OK:
                problem = problem_of(Answer(response.status, {}, response.read()), address)
                hint = names.hint(names.admin_beside(address), problem, event)
                told.put((event, "end", f"error: {detail_of(problem)}{hint}"))
                return
            told.put((event, "begin", f"watching {event}"))
            for kind, data in _server_sent_events(response):
                match kind:
                    case "message":
                        told.put((event, kind, data))
                    case "gap":
                        told.put((event, kind, f"{event}: {json.loads(data)['detail']}"))
                    case "end":
                        told.put((event, kind, f"error: {detail_of(json.loads(data))}"))
                        return
    except (DaemonUnreachableError, ValueError, KeyError) as error:
        told.put((event, "end", f"error: {error}"))
    else:
        told.put((event, "end", f"error: the daemon closed the feed of {event}"))


def _server_sent_events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    """Read a stream of events (WHATWG HTML, section 9.2.6): the name and the data of each."""
    name = "message"
    data: list[str] = []
    for raw in response:
        line = raw.decode().rstrip("\n")
        field, _, value = line.partition(":")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")


def _readable(event: dict[str, Any], colour: str) -> str:
    """Write a CloudEvent as a line for people."""
    now = time.time()
    at = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03d}"
    parts = [click.style(at, dim=True), click.style(event["walnatsevent"], fg=colour, bold=True)]
    if uid := event.get("walnatsuid"):
        parts.append(click.style(_on_one_line(harmless(uid)), dim=True))
    if error := event.get("walnatscodecerror"):
        parts.append(click.style(f"can't be decoded ({harmless(error)}):", fg="red"))
    parts.append(_on_one_line(harmless(_payload(event))))
    return "  ".join(parts)


def _payload(event: dict[str, Any]) -> str:
    if "data" in event:
        return json.dumps(event["data"], ensure_ascii=False, separators=(",", ":"))
    payload = base64.b64decode(event.get("data_base64", ""))
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return f"({len(payload)} bytes) {event['data_base64']}"


def _on_one_line(text: str) -> str:
    return re.sub(r"[\r\n]+", " ", text)


def _colour() -> bool | None:
    """Whether to colour: as the output takes it, but for those who want none (no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None
