"""D2 (https://d2lang.com)."""

import json
from collections.abc import Iterator

from walnatsd.describe.system import System, clocks_of

# ELK knows how to lay out boxes in boxes; the default engine draws lines across them. The colours are those of event
# storming, as the walnats library draws them, but for the services: they are what holds the rest.
_HEAD = """\
vars: {d2-config: {layout-engine: elk}}
direction: right
classes: {
  service: {style: {fill: "#f7f7f5"; stroke: "#8a8a80"; border-radius: 8}}
  event: {shape: queue; style: {fill: "#fdebd0"; stroke: "#d68910"}}
  actor: {style: {fill: "#e9f2fb"; stroke: "#2980b9"; border-radius: 4}}
  emits: {style: {stroke: "#d68910"}}
  acts: {style: {stroke: "#2980b9"}}
}"""


def d2(system: System, *, title: str = "") -> str:
    """Draw a system: services as boxes with their actors in them, events between emitters and actors.

    Args:
        system: What is drawn.
        title: Stands above it.
    """
    return "\n".join(_lines(system, title)) + "\n"


def _lines(system: System, title: str) -> Iterator[str]:
    yield _HEAD
    if title:
        yield f"title: {_text(title)} {{near: top-center; shape: text; style.font-size: 28}}"
    for service in system.services:
        yield f"{_key('service', service.name)}: {_text(service.name)} {{"
        yield "  class: service"
        for actor in service.actors:
            yield f"  {_key('actor', actor.event, actor.name)}: {_text(actor.name)} {_options('actor', actor.description)}"
        yield "}"
    for name, event in system.events.items():
        yield f"{_key('event', name)}: {_text(name)} {_options('event', event.description)}"
    for name in system.events:
        for service in system.emitters(name):
            label = ", ".join(clocks_of(service, name))
            label = f": {_text(label)}" if label else ":"
            yield f"{_key('service', service.name)} -> {_key('event', name)}{label} {{class: emits}}"
    for service, actor in system.actors():
        target = f"{_key('service', service.name)}.{_key('actor', actor.event, actor.name)}"
        arrow = "<->" if actor.responds else "->"
        yield f"{_key('event', actor.event)} {arrow} {target}: {{class: acts}}"


def _options(kind: str, description: str | None) -> str:
    return f"{{class: {kind}; tooltip: {_text(description)}}}" if description else f"{{class: {kind}}}"


def _key(*parts: str) -> str:
    return _quoted(" ".join(parts))


def _text(text: str) -> str:
    """Write what is shown: without what can't stand in a picture."""
    return _quoted("".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text))


def _quoted(text: str) -> str:
    """Write a quoted string: D2 takes JSON's escapes, and would substitute `${…}`."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")
