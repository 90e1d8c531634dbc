"""What is allowed and still unwise: warnings with the place in the file."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from walnatsd.cli import main

FINE = "{name: parcel-sent, description: It left., limits: {age: 7d}}"


def warnings(text: str, folder: Path) -> list[str]:
    """What check says on standard error; it must find no errors."""
    (folder / "walnatsd.yaml").write_text(text)
    ended = CliRunner().invoke(main, ["check", "-c", str(folder / "walnatsd.yaml")])
    assert ended.exit_code == 0, ended.output
    assert "is fine" in ended.stdout
    return ended.stderr.splitlines()


def test_what_is_wise_gives_no_warning(tmp_path) -> None:
    actors = "[{name: send-email2, event: parcel-sent, url: 'http://h/', description: Mails.}]"
    assert warnings(f"events: [{FINE}]\nactors: {actors}", tmp_path) == []


@pytest.mark.parametrize("name", ["parcelSent", "Parcel-sent", "parcel_sent", "-parcel", "parcel--sent", "a.B"])
def test_names_that_are_not_in_kebab_case(tmp_path, name) -> None:
    assert warnings(f"events:\n  - {FINE.replace('parcel-sent', name)}", tmp_path) == [
        f"warning: events[0].name: the event name {name!r} is not in kebab-case, like parcel-sent; dots may join parts (line 2)"
    ]


def test_dots_are_for_events_only_and_each_part_is_looked_at(tmp_path) -> None:
    assert warnings(f"events: [{FINE.replace('parcel-sent', 'parcel.was-sent.v2')}]", tmp_path) == []


def test_everything_is_told_at_once_in_the_order_of_the_file(tmp_path) -> None:
    text = f"""
actors:
  - event: parcel-sent
    url: http://h/
    name: SendEmail
    description: "  "
events:
  - name: {"x" * 65}
    limits: {{message_size: 1KiB}}
  - {FINE}
  - name: ages
    description: ''
    limits:
      age: 2000000000
"""
    assert warnings(text, tmp_path) == [
        "warning: actors[0].name: the actor name 'SendEmail' is not in kebab-case, like send-email (line 5)",
        "warning: actors[0].description: the description of the actor is empty (line 6)",
        "warning: events[0].name: the event name is long: 65 characters; more than 64 are hard to read (line 8)",
        "warning: events[0]: the event has no description; say in one what it means (line 8)",
        (
            "warning: events[0].limits: the event has no limits: while an actor is away, its stream grows until the disk is "
            "full; set limits: {age, messages or bytes} (line 9)"
        ),
        "warning: events[2].description: the description of the event is empty (line 12)",
        "warning: events[2].limits.age: 2e+09 s are more than 31 years; a number is in seconds (line 14)",
    ]


def test_warnings_as_json(tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text("events:\n  - {name: e, description: It is., limits: {}}")
    ended = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "walnatsd.yaml"), "--json"])
    assert ended.exit_code == 0
    assert ended.stdout.startswith(
        '{"warnings": [{"path": "events[0].limits", "line": 2, "message": "the event has no limits'
    )


def test_servers_beside_an_embedded_one_are_said_to_be_unused(tmp_path) -> None:
    text = "nats:\n  embedded: true\n  servers: [nats.example]"
    assert warnings(text, tmp_path) == [
        "warning: nats.servers: not used: nats.embedded starts a server of its own; remove one of them (line 3)"
    ]
    assert warnings("nats: {embedded: true}", tmp_path) == []


def test_tokens_that_would_travel_in_the_clear(tmp_path) -> None:
    (tmp_path / "token").write_text("sesame")
    auth = "auth: {tokens: [{token: {file: token}, scopes: [emit]}]}"
    [told] = warnings(f"http: {{listen: '0.0.0.0:7521'}}\n{auth}", tmp_path)
    assert told == (
        "warning: http.listen: tokens travel to 0.0.0.0:7521 in the clear; set http.tls, or let something that ends TLS stand "
        "in front (line 1)"
    )
    assert warnings(auth, tmp_path) == []
