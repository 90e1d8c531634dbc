"""`walnatsd dead-letters`: list, show, replay, discard."""

import json
import sys
from typing import Any

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import (
    Done,
    FailedError,
    admin_option,
    ask,
    ask_for_all,
    ask_for_each,
    json_option,
    table,
    yes_option,
)
from walnatsd.cli.shown import harmless, progress

PATH = "/admin/v1/dead-letters"
STEP = 100
"""So many are replayed with one request, so that progress is seen."""
REASON_WIDTH = 60

event_option = click.option("--event", shell_complete=names.events, metavar="EVENT", help="Those of this event only.")
actor_option = click.option("--actor", shell_complete=names.actors, metavar="ACTOR", help="Those of this actor only.")
sequence_argument = click.argument("sequences", metavar="SEQUENCE...", nargs=-1, type=click.IntRange(min=1))


@click.group("dead-letters")
def command() -> None:
    """Look at messages that actors gave up on, replay or discard them."""


@command.command("list")
@event_option
@actor_option
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", help="Go on where a list ended.")
@admin_option
@json_option
def listing(
    event: str | None, actor: str | None, limit: int, cursor: str | None, address: Address, as_json: bool
) -> None:
    """List dead letters, oldest first."""
    page = ask(address, "GET", PATH, event=event, actor=actor, limit=limit, cursor=cursor)
    if as_json:
        click.echo(json.dumps(page))
        return
    if not page["items"]:
        of = " of ".join(name for name in (actor, event) if name)
        click.echo(f"There are no dead letters{f' of {of}' if of else ''}.")
        return
    click.echo(table([_row(item) for item in page["items"]]))
    if page["next_cursor"] is not None:
        click.echo(f"There are more; go on with --cursor {page['next_cursor']}")


@command.command("show")
@click.argument("sequence", type=click.IntRange(min=1))
@admin_option
@json_option
def show(sequence: int, address: Address, as_json: bool) -> None:
    """Show a dead letter: why it died, its attempts, its headers, its payload."""
    letter = ask(address, "GET", f"{PATH}/{sequence}")
    if as_json:
        click.echo(json.dumps(letter))
        return
    for key, value in letter.items():
        if key not in {"headers", "payload", "payload_base64", "history"} and value is not None:
            click.echo(f"{key + ':':18} {harmless(str(value))}")
    _show_history(letter["history"])
    click.echo("headers:")
    for name, value in letter["headers"].items():
        click.echo(harmless(f"  {name}: {value}"))
    if "payload" in letter:
        click.echo(f"payload:\n{harmless(letter['payload'])}")
    else:
        click.echo(f"payload (base64):\n{letter['payload_base64']}")


@command.command("replay")
@sequence_argument
@event_option
@actor_option
@click.option("--limit", type=click.IntRange(min=1), help="At most so many; all where not given.")
@admin_option
@json_option
def replay(
    sequences: tuple[int, ...], event: str | None, actor: str | None, limit: int | None, address: Address, as_json: bool
) -> None:
    """Hand dead letters to their actor again, and to nobody else: those of SEQUENCE, or all of --event and --actor.

    Interrupted, it can be run again: nothing is replayed twice.
    """
    if bool(sequences) == bool(event or actor) or bool(event) != bool(actor):
        raise click.UsageError("give either SEQUENCEs, or --event and --actor")
    if sequences:
        paths = {sequence: f"{PATH}/{sequence}/replay" for sequence in sequences}
        done = ask_for_each(address, "POST", paths, doing="replaying", name="sequence")
    else:
        assert event is not None
        assert actor is not None
        with names.hinting(address, event, actor):
            done = Done()
            try:
                _replay_all(done, address, event, actor, limit, tells=not as_json)
            except FailedError:
                if done.done:
                    click.echo(f"replayed {done.done}; the rest is left", err=True)
                raise
    done.tell("replayed", as_json=as_json)


def _replay_all(done: Done, address: Address, event: str, actor: str, limit: int | None, *, tells: bool) -> None:
    """Replay page by page, and say how far it is: with a bar on a terminal, elsewhere in lines."""
    cursor, there = None, _how_many(address, event, actor) if sys.stderr.isatty() else 0
    with progress("replaying", there if limit is None else min(there, limit)) as advance:
        while limit is None or done.done + len(done.failures) < limit:
            step = STEP if limit is None else min(STEP, limit - done.done - len(done.failures))
            answer = ask(address, "POST", f"{PATH}/replay", event=event, actor=actor, limit=step, cursor=cursor)
            done.done += answer["replayed"]
            done.failures += answer["failures"]
            cursor = answer["next_cursor"]
            advance(answer["replayed"] + answer["failed"])
            if cursor is None:
                break
            if tells and not there:
                click.echo(f"replayed {done.done} so far", err=True)


def _how_many(address: Address, event: str, actor: str) -> int:
    """Say how many dead letters an actor has; 0 where it is not one of this daemon's."""
    for each in ask_for_all(address, "/admin/v1/actors"):
        if (each["event"], each["name"]) == (event, actor):
            return each["dead_letters"] or 0
    return 0


@command.command("discard")
@sequence_argument
@yes_option
@admin_option
@json_option
def discard(sequences: tuple[int, ...], yes: bool, address: Address, as_json: bool) -> None:
    """Erase dead letters for good; shows them, and asks, first."""
    if not sequences:
        raise click.UsageError("give at least one SEQUENCE")
    if not yes:
        rows = [_row(ask(address, "GET", f"{PATH}/{sequence}")) for sequence in sequences]
        click.echo(table(rows), err=as_json)
        click.confirm(f"Erase {len(sequences)} for good?", abort=True, err=as_json)
    paths = {sequence: f"{PATH}/{sequence}" for sequence in sequences}
    ask_for_each(address, "DELETE", paths, doing="discarding", name="sequence").tell("discarded", as_json=as_json)


def _row(item: dict[str, Any]) -> dict[str, Any]:
    reason = harmless(item["reason"])
    return {
        "SEQUENCE": item["sequence"],
        "DIED": item["died_at"][:19] + "Z",
        "ACTOR": harmless(f"{item['actor']} of {item['event']}"),
        "UID": harmless(item["uid"] or "") or None,
        "ATTEMPTS": item["attempts"],
        "REASON": reason if len(reason) <= REASON_WIDTH else reason[: REASON_WIDTH - 1] + "…",
    }


def _show_history(history: dict[str, Any] | None) -> None:
    if history is None:
        click.echo("attempts:          not known")
        return
    click.echo("attempts:" if history.get("complete") else "attempts, as far as they are known:")
    for attempt in history.get("attempts", []):
        status = f" {attempt['status']}" if attempt.get("status") is not None else ""
        click.echo(
            f"  {attempt['attempt']}. {attempt['at']}, {attempt['duration_ms']} ms, {attempt['outcome']}{status}: "
            + harmless(str(attempt.get("answer") or attempt.get("reason")))
        )
