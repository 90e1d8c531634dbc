"""Clocks in the config file: each mistake is a problem with its place."""

from pathlib import Path

import pytest

from walnatsd.config.load import load_text
from walnatsd.config.problems import ConfigError, render

EVENTS = "events: [{name: e}, {name: f}]\n"


def problems_of(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, file=None, environ={})
    return {render(problem.location): problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("clock", "place", "words"),
    [
        ("{event: e}", "clocks[0]", "give either every: 60s or cron: '0 12 * * MON-FRI'"),
        ("{event: e, every: 60s, cron: '* * * * *'}", "clocks[0]", "give either every"),
        ("{event: e, every: 500ms}", "clocks[0].every", "should be whole seconds that divide a day"),
        ("{event: e, every: 0}", "clocks[0].every", "greater than 0"),
        ("{event: e, every: soon}", "clocks[0].every", "write a duration"),
        ("{event: e, every: 7s}", "clocks[0].every", "near ones are 6s and 8s, or use cron; this is '7s'"),
        ("{event: e, cron: '0 0 30 2 *'}", "clocks[0].cron", "never fires"),
        ("{event: e, cron: '0 25 * * *'}", "clocks[0].cron", "hour '25': should be a number from 0 to 23"),
        ("{event: e, cron: hourly}", "clocks[0].cron", "5 fields"),
        ("{event: e, cron: 5}", "clocks[0].cron", "should be text; put it in quotes"),
        ("{event: e, every: 60s, timezone: CEST}", "clocks[0].timezone", "is not known here"),
        ("{event: e, every: 60s, timezone: Europe/Berln}", "clocks[0].timezone", "did you mean Europe/Berlin?"),
        ("{event: g, every: 60s}", "clocks[0].event", "the event 'g' is not declared; add it to events"),
        (
            "{event: e, every: 60s, zone: UTC}",
            "clocks[0].zone",
            "unknown key; did you mean timezone?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(clock: str, place: str, words: str) -> None:
    problems = problems_of(f"{EVENTS}clocks: [{clock}]")
    assert list(problems) == [place]
    assert words in problems[place]


def test_all_mistakes_are_told_at_once() -> None:
    text = (
        f"{EVENTS}clocks: [{{event: e}}, {{event: g, every: 7s, timezone: Nowhere/At/All}}, {{event: f, cron: '* *'}}]"
    )
    assert list(problems_of(text)) == [
        "clocks[0]", "clocks[1].every", "clocks[1].timezone", "clocks[2].cron", "clocks[1].event",
    ]  # fmt: skip


def test_an_event_has_one_clock() -> None:
    problems = problems_of(
        f"{EVENTS}clocks: [{{event: e, every: 60s}}, {{event: f, every: 60s}}, {{event: e, every: 1h}}]"
    )
    assert problems == {"clocks[2].event": "the event 'e' has two clocks; give each of them an event of its own"}


@pytest.mark.parametrize("schema", ['{"type": "object"}', '{"type": "string"}'])
def test_a_tick_is_no_json_so_no_json_schema_takes_it(schema: str, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(schema)
    events = f"events: [{{name: e, schema: {{json_schema: {tmp_path}/schema.json}}}}]\n"
    problems = problems_of(f"{events}clocks: [{{event: e, every: 60s, timezone: Asia/Kolkata}}]")
    assert list(problems) == ["clocks[0].event"]
    assert problems["clocks[0].event"].startswith(
        "the payload of a tick is text like 1970-01-01T05:30:00, which does not fit the schema of 'e': the payload is not JSON"
    )
    load_text(events, file=None, environ={})


def test_a_schema_that_can_not_be_used_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{")
    events = f"events: [{{name: e, schema: {{json_schema: {tmp_path}/schema.json}}}}]\n"
    assert list(problems_of(f"{events}clocks: [{{event: e, every: 60s}}]")) == ["events[0].schema"]


def test_what_is_right_is_taken() -> None:
    config = load_text(
        f"{EVENTS}clocks:\n"
        "- {event: e, every: 90}\n"
        "- {event: f, cron: '*/10 0 12 * * MON-FRI', timezone: America/Argentina/Buenos_Aires}",
        file=None,
        environ={},
    ).config
    assert [str(clock) for clock in config.clocks] == [
        "every 90 s", "cron '*/10 0 12 * * MON-FRI' in America/Argentina/Buenos_Aires",
    ]  # fmt: skip
