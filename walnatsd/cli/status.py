"""`walnatsd status`."""

import json
from typing import Any

import click

from walnatsd.cli.address import Address
from walnatsd.cli.admin_client import admin_option, ask, ask_for_all, json_option, table
from walnatsd.cli.spool import lines


@click.command("status")
@admin_option
@json_option
def command(address: Address, as_json: bool) -> None:
    """Show how events and actors fare: what waits, what is paused, what differs from its declaration."""
    spool = ask(address, "GET", "/admin/v1/spool")
    if spool["enabled"] and not as_json:  # first, for while NATS is away the rest is an error
        click.echo("\n".join(lines(spool)) + "\n")
    events = list(ask_for_all(address, "/admin/v1/events"))
    actors = list(ask_for_all(address, "/admin/v1/actors"))
    if as_json:
        click.echo(json.dumps({"events": events, "actors": actors, "spool": spool}))
        return
    if not events:
        click.echo("No events are declared.")
        return
    with_clocks = any(event["clock"] for event in events)
    click.echo(table([_event(event, with_clocks=with_clocks) for event in events]))
    if actors:
        click.echo()
        click.echo(table([_actor(actor) for actor in actors]))
    for note in _notes(events, actors):
        click.echo()
        click.echo(note)


def _event(event: dict[str, Any], *, with_clocks: bool) -> dict[str, Any]:
    return {
        "EVENT": event["name"],
        "MESSAGES": event["messages"] if event["exists"] else "no stream",
        "BYTES": event["bytes"],
        "ACTORS": event["actors"],
        "ELSEWHERE": event["others"],
        "ORPHANS": event["orphans"],
    } | ({"NEXT TICK": (event["clock"] or {}).get("next_tick_at")} if with_clocks else {})


def _actor(actor: dict[str, Any]) -> dict[str, Any]:
    return {
        "ACTOR": f"{actor['name']} of {actor['event']}",
        "STATE": actor["state"],
        "IN FLIGHT": actor["in_flight"],
        "WINDOW": actor["window"],
        "PENDING": actor["pending"],
        "UNSETTLED": actor["ack_pending"],
        "OLDEST": _age(actor["oldest_age_s"]),
        "DEAD": actor["dead_letters"],
    }


def _notes(events: list[dict[str, Any]], actors: list[dict[str, Any]]) -> list[str]:
    """Say in words what needs a person."""
    notes = []
    for actor in actors:
        who = f"{actor['name']} of {actor['event']}"
        if actor["paused"]:
            why = actor["pause_reason"] or "no reason is known"
            notes.append(
                f"{who} is paused: {why}. Resume it with: walnatsd actors resume {actor['event']} {actor['name']}"
            )
        notes += [f"{who} is not as it is declared: {difference}" for difference in actor["drift"]]
    for event in events:
        clock = event["clock"] or {"problem": None, "drift": []}
        if clock["problem"] is not None:
            notes.append(f"the clock of {event['name']} does not tick: {clock['problem']}")
        notes += [f"the clock of {event['name']} is not as it is declared: {each}" for each in clock["drift"]]
        notes += [f"{event['name']} is not as it is declared: {difference}" for difference in event["drift"]]
        notes += [
            f"nobody serves the consumer {orphan} of {event['name']}, and it holds messages back. "
            f"Delete it with: walnatsd actors delete {event['name']} {orphan}"
            for orphan in event["orphans"]
        ]
    return notes


def _age(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"
