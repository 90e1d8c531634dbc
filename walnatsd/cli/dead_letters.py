"""`walnatsd dead-letters`: list, show, replay, discard."""

import json
import sys
from typing import Any

import click

from walnatsd.cli import names
from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import FAILED, admin_option, ask, json_option, table
from walnatsd.cli.shown import harmless

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
        click.echo("There are no dead letters.")
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
        replayed = [ask(address, "POST", f"{PATH}/{sequence}/replay") for sequence in sequences]
        click.echo(json.dumps({"replayed": len(replayed), "failed": 0}) if as_json else f"replayed {len(replayed)}")
        return
    replayed_count, failures = _replay_all(address, event, actor, limit, tells=not as_json)
    if as_json:
        click.echo(json.dumps({"replayed": replayed_count, "failed": len(failures), "failures": failures}))
    else:
        for failure in failures:
            click.echo(f"{failure['sequence']}: {failure['detail']}", err=True)
        click.echo(f"replayed {replayed_count}" + (f", {len(failures)} failed" if failures else ""))
    sys.exit(FAILED if failures else 0)


def _replay_all(
    address: Address, event: str | None, actor: str | None, limit: int | None, *, tells: bool
) -> tuple[int, list[dict[str, Any]]]:
    """Replay page by page, and say how far it is."""
    replayed, cursor = 0, None
    failures: list[dict[str, Any]] = []
    while limit is None or replayed + len(failures) < limit:
        step = STEP if limit is None else min(STEP, limit - replayed - len(failures))
        answer = ask(address, "POST", f"{PATH}/replay", event=event, actor=actor, limit=step, cursor=cursor)
        replayed, cursor = replayed + answer["replayed"], answer["next_cursor"]
        failures += answer["failures"]
        if cursor is None:
            break
        if tells:
            click.echo(f"replayed {replayed} so far", err=True)
    return replayed, failures


@command.command("discard")
@sequence_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@admin_option
def discard(sequences: tuple[int, ...], yes: bool, address: Address) -> None:
    """Erase dead letters for good; shows them, and asks, first."""
    if not sequences:
        raise click.UsageError("give at least one SEQUENCE")
    if not yes:
        click.echo(table([_row(ask(address, "GET", f"{PATH}/{sequence}")) for sequence in sequences]))
        click.confirm(f"Erase {len(sequences)} for good?", abort=True)
    for sequence in sequences:
        ask(address, "DELETE", f"{PATH}/{sequence}")
    click.echo(f"discarded {len(sequences)}")


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
