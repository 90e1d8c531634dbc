"""What is allowed and still unwise: tokens in the clear, names, descriptions and limits, with the rules of the walnats library's linter."""

import re
from collections.abc import Iterator

from walnatsd.config.listen import Tcp, parse_address
from walnatsd.config.problems import Location, Problem
from walnatsd.config.settings import Admin, Config, Grpc, Http
from walnatsd.model.event import Event

MAX_SANE_LENGTH = 64
"""NATS takes longer names; dashboards and folders of servers do not like them."""
_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_SANE_AGE_S = 1e9  # 31 years: somebody wrote milliseconds or nanoseconds


def lint(config: Config) -> Iterator[Problem]:
    """Find what is unwise, in the order of events and actors."""
    if config.nats.embedded is not None and "servers" in config.nats.model_fields_set:
        yield Problem(("nats", "servers"), "not used: nats.embedded starts a server of its own; remove one of them")
    yield from _in_the_clear(config)
    for index, event in enumerate(config.events):
        at: Location = ("events", index)
        yield from _named("event", event.name, event.name.split("."), at)
        yield from _described("event", event.description, at)
        yield from _limited(event, at)
    for index, actor in enumerate(config.actors):
        at = ("actors", index)
        yield from _named("actor", actor.name, [actor.name], at)
        yield from _described("actor", actor.description, at)


def _in_the_clear(config: Config) -> Iterator[Problem]:
    """Find addresses that tokens travel to where others may listen in."""
    if not config.auth.tokens:
        return
    parts: dict[str, Grpc | Http | Admin] = {"grpc": config.grpc, "http": config.http, "admin": config.admin}
    for section, part in parts.items():
        address = parse_address(part.listen)
        if isinstance(address, Tcp) and not address.is_loopback and part.tls is None:
            yield Problem(
                (section, "listen"),
                f"tokens travel to {address} in the clear; set {section}.tls, or let something that ends TLS stand in front",
            )


def _named(kind: str, name: str, parts: list[str], at: Location) -> Iterator[Problem]:
    if not all(_KEBAB.fullmatch(part) for part in parts):
        example = "parcel-sent" if kind == "event" else "send-email"
        dots = "; dots may join parts" if kind == "event" else ""
        yield Problem((*at, "name"), f"the {kind} name {name!r} is not in kebab-case, like {example}{dots}")
    if len(name) > MAX_SANE_LENGTH:
        yield Problem(
            (*at, "name"),
            f"the {kind} name is long: {len(name)} characters; more than {MAX_SANE_LENGTH} are hard to read",
        )


def _described(kind: str, description: str | None, at: Location) -> Iterator[Problem]:
    if description is None:
        yield Problem(at, f"the {kind} has no description; say in one what it {'means' if kind == 'event' else 'does'}")
    elif not description.strip():
        yield Problem((*at, "description"), f"the description of the {kind} is empty")


def _limited(event: Event, at: Location) -> Iterator[Problem]:
    limits = event.limits
    if limits.age is None and limits.messages is None and limits.bytes is None:
        yield Problem(
            (*at, "limits") if "limits" in event.model_fields_set else at,
            "the event has no limits: while an actor is away, its stream grows until the disk is full; "
            "set limits: {age, messages or bytes}",
        )
    elif limits.age is not None and limits.age >= _LONGEST_SANE_AGE_S:
        yield Problem((*at, "limits", "age"), f"{limits.age:g} s are more than 31 years; a number is in seconds")
