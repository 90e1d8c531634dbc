"""Maps of a system in D2 and Mermaid: what they show, and that their own parsers take them, whatever things are called."""

import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.node_packages import Mermaid, mermaid_parser
from support.systems import TEXTS, actor, event, systems, warehouse
from walnatsd.describe.d2 import d2
from walnatsd.describe.mermaid import mermaid
from walnatsd.describe.system import Service, System

D2 = Path(sysconfig.get_path("scripts"), "d2")


@pytest.fixture(scope="module")
def parser() -> Iterator[Mermaid]:
    with mermaid_parser() as running:
        yield running


def drawn(text: str, folder: Path) -> str:
    """The picture that D2 makes of it."""
    (folder / "map.d2").write_text(text)
    ended = subprocess.run(
        [D2, "map.d2", "map.svg"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, f"{ended.stderr}\n{text}"
    return (folder / "map.svg").read_text()


def label(text: str) -> str:
    """A label as Mermaid has it before it is drawn, with its codes undone."""
    return re.sub("ﬂ°°([0-9]+)¶ß", lambda code: chr(int(code[1])), text)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_d2_draws_services_events_actors_clocks_and_the_title(tmp_path) -> None:
    picture = drawn(d2(warehouse(), title="Parcels"), tmp_path)
    for text in ("shop", "warehouse", "mail", "order-placed", "parcel.sent", "pack", "tell", "every 60 s", "Parcels"):
        assert f">{text}<" in picture, text
    for text in ("A customer orders.", "Packs it."):
        assert text in picture  # tooltips


def test_d2_lines_lead_from_emitters_to_events_to_actors() -> None:
    lines = d2(warehouse()).splitlines()
    assert '"service shop" -> "event order-placed": {class: emits}' in lines
    assert '"service warehouse" -> "event minute-passed": "every 60 s" {class: emits}' in lines
    assert '"event order-placed" -> "service mail"."actor order-placed tell": {class: acts}' in lines
    assert '"event parcel.sent" <-> "service mail"."actor parcel.sent tell": {class: acts}' in lines
    assert sum("->" in line for line in lines) == 7


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(systems(), TEXTS)
def test_d2_takes_whatever_can_be_declared(tmp_path, system, title) -> None:
    (tmp_path / "map.d2").write_text(d2(system, title=title))
    ended = subprocess.run(
        [D2, "validate", "map.d2"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout


def test_d2_shows_names_as_they_are(tmp_path) -> None:
    name = 'a "b" \\n ${x} `c` <b>&amp;</b> #d {e} é 漢'
    picture = drawn(d2(System([Service(name, [event("e")], [])])), tmp_path)
    assert ">a &#34;b&#34; \\n ${x} `c` &lt;b&gt;&amp;amp;&lt;/b&gt; #d {e} é 漢<" in picture


@pytest.mark.needs_program("npm")
def test_mermaid_understands_services_events_actors_and_clocks(parser) -> None:
    known = parser.understand(mermaid(warehouse(), title='The "whole": #1'))
    assert known["type"] == "flowchart-v2"
    assert known["groups"] == [["s1", "warehouse", ["a0", "a1"]], ["s2", "mail", ["a2", "a3"]]]
    names = dict(known["nodes"])
    assert [names[key] for key in ("s0", "e0", "e1", "e2")] == ["shop", "order-placed", "parcel.sent", "minute-passed"]
    assert [names[key] for key in ("a0", "a1", "a2", "a3")] == ["pack", "look", "tell", "tell"]
    assert known["edges"] == [
        ["s0", "e0", "arrow_point", ""],
        ["s1", "e1", "arrow_point", ""],
        ["s1", "e2", "arrow_point", "every 60 s"],
        ["e0", "a0", "arrow_point", ""],
        ["e2", "a1", "arrow_point", ""],
        ["e0", "a2", "arrow_point", ""],
        ["e1", "a3", "double_arrow_point", ""],
    ]


@pytest.mark.needs_program("npm")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(systems(), st.just("") | TEXTS)
def test_mermaid_understands_whatever_can_be_declared(parser, system, title) -> None:
    known = parser.understand(mermaid(system, title=title))
    labels = {key: label(text) for key, text in known["nodes"]}
    groups = {key: label(text) for key, text, _ in known["groups"]}
    for number, service in enumerate(system.services):
        assert (groups if service.actors else labels)[f"s{number}"].strip() == in_one_line(service.name)
    assert [labels[f"e{number}"] for number in range(len(system.events))] == list(system.events)
    assert [labels[f"a{number}"] for number in range(len(system.actors()))] == [a.name for _, a in system.actors()]
    arrows = [(start, end) for start, end, _, _ in known["edges"]]
    assert len(arrows) == sum(len(system.emitters(name)) for name in system.events) + len(system.actors())


def test_a_service_of_several_files_is_drawn_once() -> None:
    one = Service("shop", [event("a")], [actor("act", "a")])
    other = Service("shop", [event("b")], [actor("act", "b")])
    system = System([one, other])
    assert [service.name for service in system.services] == ["shop"]
    assert mermaid(system).count("subgraph") == 1
    assert [service.name for service, _ in system.actors()] == ["shop", "shop"]


def test_what_two_files_say_differently_is_told_at_once() -> None:
    one = Service("one", [event("a.b")], [actor("act", "a.b")])
    other = Service("other", [event("a.b"), event("a-b")], [actor("act", "a.b")])
    with pytest.raises(ValueError, match="act") as caught:
        System([one, other])
    assert str(caught.value).splitlines() == [
        "the events 'a-b' and 'a.b' map to one stream, 'a-b'; rename one of them",
        "the actor 'act' of 'a.b' is declared by 'one' and 'other'",
    ]


def test_an_event_is_described_by_whichever_file_says_something() -> None:
    system = System([Service("one", [event("a", example=1)], []), Service("other", [event("a", "It is.")], [])])
    assert (system.events["a"].description, system.events["a"].example) == ("It is.", 1)
