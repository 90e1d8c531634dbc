"""The demo's parts that need no process: the tally, what a terminal gets, the ports."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from walnatsd.config.load import load

DEMO = Path(__file__).parents[2] / "examples" / "demo"
USUAL_PORTS = {"4222", "7520", "7521", "7522", "8000"}


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The demo's folder on the import path, as when it is run."""
    monkeypatch.syspath_prepend(str(DEMO))


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def tally_of(*handled: tuple[str, int], expected: int = 3, emitted: tuple[int, ...] = (1, 2, 3)) -> Any:
    from tally import Tally

    tally = Tally(expected, ("north", "south"))
    for number in emitted:
        tally.confirm(str(number))
    for receiver, number in handled:
        tally.count(receiver, str(number))
    return tally


def test_every_number_handled_is_a_success(demo) -> None:
    tally = tally_of(("north", 1), ("south", 3), ("south", 2))
    assert (tally.exit_code, tally.lost, tally.repeated) == (0, [], 0)
    assert tally.who() == ["north", "south", "south"]


def test_a_number_that_nobody_handled_is_lost_and_a_failure(demo) -> None:
    tally = tally_of(("north", 1), ("south", 3))
    assert (tally.exit_code, tally.lost) == (1, [2])
    assert tally.who() == ["north", None, "south"]


def test_a_number_handled_twice_is_counted_and_a_success(demo) -> None:
    tally = tally_of(("north", 1), ("north", 2), ("south", 2), ("south", 3))
    assert (tally.exit_code, tally.lost, tally.repeated) == (0, [], 1)
    assert tally.who() == ["north", "again", "south"]


def test_a_number_that_was_never_confirmed_is_a_failure(demo) -> None:
    tally = tally_of(("north", 1), ("north", 2), ("south", 3), emitted=(1, 2))
    assert (tally.exit_code, tally.lost, tally.unconfirmed) == (1, [], [3])


def test_lines_that_are_no_numbers_are_not_counted(demo) -> None:
    tally = tally_of(("north", 1), ("north", 2), ("north", 3))
    tally.count("north", "INFO: a log line")
    tally.confirm("Traceback")
    assert len(tally.handled) == len(tally.emitted) == 3


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colours_unless_it_asks_for_none(demo, environ, coloured) -> None:
    from screen import Screen

    out = Terminal()
    screen = Screen(("north", "south"), out, environ)
    screen.good("up")
    screen.start_clock()
    screen.row(3, {"north": None, "south": 2})
    screen.tally(tally_of(("north", 1), ("south", 2), ("north", 2)))
    assert ("\x1b[" in out.getvalue()) == coloured
    assert "Lost: 3" in out.getvalue()


def test_an_output_that_is_not_utf8_gets_plain_characters(demo) -> None:
    from screen import Screen

    buffer = io.BytesIO()
    out = io.TextIOWrapper(buffer, encoding="ascii")
    screen = Screen(("north", "south"), out, {})
    screen.good("up")
    screen.bad("down: ü")
    screen.row(3, {"north": 1, "south": 2})
    screen.tally(tally_of(("north", 1)))
    assert b"##" in buffer.getvalue()


def test_the_config_of_the_demo_can_be_run_as_it_stands() -> None:
    loaded = load(str(DEMO / "walnatsd.yaml"), {})
    assert [actor.name for actor in loaded.config.actors] == ["print"]


def test_the_sidecars_of_the_demo_use_no_port_that_somebody_may_have_taken(demo) -> None:
    from services import config_text

    text = config_text(receiver_port=1001, nats_port=1002)
    assert not [port for port in USUAL_PORTS if port in text]
    config = yaml.safe_load(text)
    assert config["nats"]["embedded"]["port"] == 1002
    assert [actor["url"] for actor in config["actors"]] == ["http://127.0.0.1:1001/"]
