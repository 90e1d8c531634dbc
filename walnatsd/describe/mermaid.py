"""Mermaid flowcharts (https://mermaid.js.org/syntax/flowchart.html)."""

import json
import re
from collections.abc import Iterator

from walnatsd.describe.system import System, clocks_of

_COLOURS = (
    "classDef service fill:#f7f7f5,stroke:#8a8a80,color:#222",
    "classDef event fill:#fdebd0,stroke:#d68910,color:#222",
    "classDef actor fill:#e9f2fb,stroke:#2980b9,color:#222",
)


def mermaid(system: System, *, title: str = "") -> str:
    """Draw a system: services as subgraphs with their actors in them, events between emitters and actors.

    Args:
        system: What is drawn.
        title: Stands above it.
    """
    return "\n".join(_lines(system, title)) + "\n"


def _lines(system: System, title: str) -> Iterator[str]:
    services = {service.name: f"s{number}" for number, service in enumerate(system.services)}
    events = {name: f"e{number}" for number, name in enumerate(system.events)}
    actors = {(actor.event, actor.name): f"a{number}" for number, (_, actor) in enumerate(system.actors())}
    yield from ("---", *([f"title: {json.dumps(title)}"] if title else []), "config: {layout: elk}", "---")
    yield "flowchart LR"
    for service in system.services:
        if not service.actors:  # some layouts draw nothing for an empty subgraph
            yield f"  {services[service.name]}[{_text(service.name)}]"
            continue
        yield f"  subgraph {services[service.name]}[{_text(service.name)}]"
        for actor in service.actors:
            yield f"    {actors[actor.event, actor.name]}({_text(actor.name)}):::actor"
        yield "  end"
    for name in system.events:
        yield f"  {events[name]}[/{_text(name)}/]:::event"
    for name in system.events:
        for service in system.emitters(name):
            clocks = ", ".join(clocks_of(service, name))
            yield f"  {services[service.name]} -->{f'|{_text(clocks)}|' if clocks else ''} {events[name]}"
    for _, actor in system.actors():
        yield f"  {events[actor.event]} {'<-->' if actor.responds else '-->'} {actors[actor.event, actor.name]}"
    if services:
        yield f"  class {','.join(services.values())} service"
    for colours in _COLOURS:
        yield f"  {colours}"


def _text(text: str) -> str:
    """Write a quoted label. Mermaid reads markdown, directives, HTML and entities in it, so signs are written as codes."""
    line = " ".join(text.split()) or " "  # an empty label is no label
    return '"' + re.sub(r"[^\w .,-]", lambda sign: f"#{ord(sign[0])};", line) + '"'
