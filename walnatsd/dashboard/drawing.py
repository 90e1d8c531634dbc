"""The map: who emits, events, who acts, in three columns. Actors stand beside their event, so no lines cross there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from walnatsd.api.overview import ActorGlance, EventGlance
from walnatsd.dashboard.pages import address

COLUMNS = (16, 316, 616)
WIDTH, HEIGHT, STEP, MARGIN = 220, 40, 56, 16
TOTAL_WIDTH = COLUMNS[-1] + WIDTH + MARGIN
LONGEST_NAME = 26
OTHERS = "other services"


@dataclass(frozen=True, slots=True)
class Node:
    """A box."""

    kind: str
    """`service`, `event` or `actor`."""
    name: str
    x: int
    y: float
    note: str = ""
    """A second line."""
    link: str = ""
    look: str = ""
    """`trouble`, `elsewhere`, or nothing special."""

    @property
    def label(self) -> str:
        """The name, as far as it fits."""
        return self.name if len(self.name) <= LONGEST_NAME else f"{self.name[: LONGEST_NAME - 1]}…"

    @property
    def middle(self) -> float:
        """Half its height from above."""
        return self.y + HEIGHT / 2


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the template writes as SVG."""

    nodes: list[Node]
    lines: list[str]
    """Paths."""
    height: float
    width: int = TOTAL_WIDTH
    node_width: int = WIDTH
    node_height: int = HEIGHT


def draw(service: str, events: Iterable[EventGlance], actors: Iterable[ActorGlance]) -> Drawing:
    """Lay the boxes out."""
    by_event: dict[str, list[ActorGlance]] = {}
    for glance in actors:
        by_event.setdefault(glance.actor.event, []).append(glance)
    nodes: list[Node] = []
    lines: list[str] = []
    emitted: dict[bool, list[Node]] = {}
    y = float(MARGIN)
    for event in events:
        acting = _acting(event, by_event.get(event.event.name, []), y)
        box = Node(
            "event", event.event.name, COLUMNS[1], y + (max(1, len(acting)) - 1) * STEP / 2,
            note=_rhythm(event), link=address("tail", event=event.event.name),
            look="trouble" if event.orphans or event.refused else "",
        )  # fmt: skip
        nodes += [box, *acting]
        lines += [_line(box, node) for node in acting]
        emitted.setdefault(event.is_emitted_here, []).append(box)
        y += max(1, len(acting)) * STEP
    emitters = _emitters(service, emitted)
    for is_here, box in emitters.items():
        lines += [_line(box, event_box) for event_box in emitted[is_here]]
    lowest = max([y, *(box.y + STEP for box in emitters.values())])
    return Drawing([*emitters.values(), *nodes], lines, lowest + MARGIN)


def _emitters(service: str, emitted: Mapping[bool, list[Node]]) -> dict[bool, Node]:
    """Place who emits in the middle of what it emits, one below the other."""
    boxes: dict[bool, Node] = {}
    lowest = float(MARGIN)
    for is_here in sorted(emitted, key=lambda here: emitted[here][0].y):
        places = [box.y for box in emitted[is_here]]
        y = max(lowest, (places[0] + places[-1]) / 2)
        name, look = (service, "") if is_here else (OTHERS, "elsewhere")
        boxes[is_here] = Node("service", name, COLUMNS[0], y, look=look)
        lowest = y + STEP
    return boxes


def _acting(event: EventGlance, actors: Iterable[ActorGlance], y: float) -> list[Node]:
    nodes: list[Node] = []
    for glance in actors:
        name = glance.actor.name
        is_well = glance.state == "open" and not glance.failed
        nodes.append(
            Node(
                "actor", name, COLUMNS[2], y + len(nodes) * STEP, note=glance.state,
                link=address("actors", event.event.name, name), look="" if is_well else "trouble",
            )
        )  # fmt: skip
    for name in event.elsewhere:
        is_orphan = name in event.orphans
        note, look = ("nobody serves it", "trouble") if is_orphan else ("served elsewhere", "elsewhere")
        nodes.append(Node("actor", name, COLUMNS[2], y + len(nodes) * STEP, note=note, look=look))
    return nodes


def _rhythm(event: EventGlance) -> str:
    if event.clock is None:
        return ""
    clock = event.clock.clock
    return f"every {clock.every:g} s" if clock.every is not None else str(clock.cron)


def _line(start: Node, end: Node) -> str:
    """A curve from the right of one box to the left of another."""
    x1, x2 = start.x + WIDTH, end.x
    half = (x1 + x2) / 2
    return f"M{x1} {start.middle:g} C{half:g} {start.middle:g} {half:g} {end.middle:g} {x2} {end.middle:g}"
