"""Mermaid flowcharts (https://mermaid.js.org/syntax/flowchart.html)."""

import html

from walnatsd.describe.system import System


def mermaid(system: System) -> str:
    """Draw a system: services as subgraphs with their actors in them, events between emitters and actors."""
    services = {service.name: f"s{number}" for number, service in enumerate(system.services)}
    events = {name: f"e{number}" for number, name in enumerate(system.events)}
    actors = {(actor.event, actor.name): f"a{number}" for number, (_, actor) in enumerate(system.actors())}
    lines = ["flowchart LR"]
    for service in system.services:
        lines.append(f"  subgraph {services[service.name]}[{_text(service.name)}]")
        if not service.actors:
            lines.append(f"    {services[service.name]}o(( ))")
        lines += [f"    {actors[actor.event, actor.name]}({_text(actor.name)})" for actor in service.actors]
        lines.append("  end")
    lines += [f"  {events[name]}>{_text(name)}]" for name in system.events]
    for name in system.events:
        lines += [f"  {services[service.name]} --> {events[name]}" for service in system.emitters(name)]
    lines += [f"  {events[actor.event]} --> {actors[actor.event, actor.name]}" for _, actor in system.actors()]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Write a quoted label: inside quotes only entities are special."""
    return '"' + html.escape(text).replace("#", "&num;") + '"'
