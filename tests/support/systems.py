"""Systems to draw: one as it could be, and any that a config file can declare."""

from hypothesis import strategies as st

from walnatsd.describe.system import Service, System
from walnatsd.model.actor import Actor
from walnatsd.model.clock import Clock
from walnatsd.model.event import Event

HOSTILE = (
    '"', "'", "`", "\n", "\r\n", "\t", "\\", "\\n", "${x}", "$", "#", "#35;", "&", "&amp;", "<b>", "</b>", "<br/>", "--", "-->",
    "|", "[", "]", "{", "}", "(", ")", "%%", "%%{init: {}}%%", ";", ":", "end", "subgraph", "class", "---", "...", "@", "*", "_",
    "|md", "style", "null", "\x00", "\x7f", "\x85", "\u2028", "\u200f", "é", "漢", "😀", "ﬂ°°96¶ß", "!", "=", "~", "^", "/", "?",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=4), min_size=1, max_size=6).map("".join)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True).filter(lambda name: not name.startswith("walnatsd"))


def event(name: str, description: str | None = None, **options: object) -> Event:
    return Event.model_validate({"name": name, "description": description, **options})


def actor(name: str, of: str, **options: object) -> Actor:
    return Actor.model_validate({"name": name, "event": of, "url": "http://127.0.0.1:8000/", **options})


def warehouse() -> System:
    """Three services, one of them by the clock, one that answers, one without actors."""
    placed, sent, minute = event("order-placed", "A customer orders."), event("parcel.sent"), event("minute-passed")
    return System(
        [
            Service("shop", [placed], []),
            Service(
                "warehouse",
                [placed, sent, minute],
                [actor("pack", "order-placed", description="Packs it."), actor("look", "minute-passed")],
                [Clock.model_validate({"event": "minute-passed", "every": 60})],
                ["nats://n1:4222"],
            ),
            Service(
                "mail", [placed, sent], [actor("tell", "order-placed"), actor("tell", "parcel.sent", responds=True)]
            ),
        ]
    )


@st.composite
def systems(draw: st.DrawFn) -> System:
    """Any system that config files can declare."""
    parts = draw(st.lists(st.lists(NAMES, min_size=1, max_size=2).map(".".join), max_size=4))
    names = list({name.replace(".", "-"): name for name in parts}.values())  # one name for a stream
    events = [event(name, draw(st.none() | TEXTS)) for name in names]
    services, taken = [], set()
    for name in draw(st.lists(TEXTS, max_size=3)):
        declared = [each for each in events if draw(st.booleans())]
        actors = []
        for of in declared:
            for each in draw(st.lists(NAMES, max_size=2)):
                if (of.name, each) not in taken:
                    taken.add((of.name, each))
                    actors.append(
                        actor(each, of.name, description=draw(st.none() | TEXTS), responds=draw(st.booleans()))
                    )
        clocks = [Clock.model_construct(event=of.name, cron=draw(TEXTS)) for of in declared if draw(st.booleans())]
        services.append(Service(name, declared, actors, clocks))
    return System(services)
