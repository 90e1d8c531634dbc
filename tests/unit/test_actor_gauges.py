"""The gauges of an actor: there while it runs, right when they are read, explained in the page on flow control."""

import re
from dataclasses import dataclass
from pathlib import Path

from walnatsd.model.gate_state import GateState
from walnatsd.observe.metrics import Metrics

PAGE = (Path(__file__).parents[2] / "docs" / "delivery" / "flow-control.md").read_text()


@dataclass
class Reading:
    gate: GateState = GateState.OPEN
    breaker: str = "closed"
    held_s: float = 0.0
    window: int = 4


def samples(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if 'actor="print"' in line]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_they_are_read_when_somebody_asks_and_gone_with_the_actor() -> None:
    metrics, reading = Metrics(), Reading()
    with metrics.watch("counts", "print", lambda: reading):
        assert samples(metrics)['walnatsd_gate{actor="print",event="counts",state="open"}'] == 1
        reading.gate, reading.held_s, reading.window = GateState.HELD, 2.5, 16
        now = samples(metrics)
        assert now['walnatsd_gate{actor="print",event="counts",state="open"}'] == 0
        assert now['walnatsd_gate{actor="print",event="counts",state="held"}'] == 1
        assert now['walnatsd_held_seconds{actor="print",event="counts"}'] == 2.5
        assert now['walnatsd_window{actor="print",event="counts"}'] == 16
        assert len(now) == len(GateState) + 3
    assert samples(metrics) == {}


def test_an_actor_that_is_started_anew_before_the_former_one_has_gone_keeps_its_gauges() -> None:
    metrics = Metrics()
    former, later = (metrics.watch("counts", "print", lambda size=size: Reading(window=size)) for size in (1, 2))
    former.__enter__()
    with later:
        former.__exit__(None, None, None)
        assert samples(metrics)['walnatsd_window{actor="print",event="counts"}'] == 2


def test_the_page_explains_every_state_in_the_order_in_which_they_win() -> None:
    table = PAGE.partition("| state |")[2]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == [state.value for state in GateState]


def test_the_page_speaks_of_metrics_that_there_are() -> None:
    metrics = Metrics()
    with metrics.watch("counts", "print", Reading):
        rendered = metrics.render().decode()
    names = set(re.findall(r"walnatsd_\w+", PAGE))
    assert len(names) > 6
    for name in names:
        assert f"# HELP {name} " in rendered
