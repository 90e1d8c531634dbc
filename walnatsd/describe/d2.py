"""D2 (https://d2lang.com)."""

import json

from walnatsd.describe.system import System


def d2(system: System) -> str:
    """Draw a system: services as boxes with their actors in them, events between emitters and actors."""
    lines = ["direction: right", ""]
    for service in system.services:
        lines.append(f"{_key('service', service.name)}: {_text(service.name)} {{")
        for actor in service.actors:
            tooltip = f"; {{tooltip: {_text(actor.description)}}}" if actor.description else ""
            label = _text(actor.name) + tooltip.replace("; ", " ", 1)
            lines.append(f"  {_key('actor', actor.event, actor.name)}: {label}")
        lines.append("}")
    for name, event in system.events.items():
        tooltip = f"tooltip: {_text(event.description)}; " if event.description else ""
        lines.append(f"{_key('event', name)}: {_text(name)} {{{tooltip}shape: queue}}")
    for name in system.events:
        lines += [f"{_key('service', service.name)} -> {_key('event', name)}" for service in system.emitters(name)]
    for service, actor in system.actors():
        target = f"{_key('service', service.name)}.{_key('actor', actor.event, actor.name)}"
        lines.append(f"{_key('event', actor.event)} -> {target}")
    return "\n".join(lines) + "\n"


def _key(*parts: str) -> str:
    return _text(" ".join(parts))


def _text(text: str) -> str:
    """Write a quoted string: D2 takes JSON's escapes, and would substitute `${…}`."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")
