"""What the types alone can't say: how declarations fit together, and what can't be carried out.

The checks look at the raw file, so that they report beside the errors of single fields.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from walnatsd.config.listen import Tcp, Unix, parse_address
from walnatsd.config.problems import Location, Problem
from walnatsd.config.settings import Admin, Config, Grpc, Http, Monitoring
from walnatsd.model.actor import Actor
from walnatsd.model.names import stream_name
from walnatsd.payload.filter import Filter

_WITHOUT_EFFECT: Mapping[tuple[str | None, ...], str] = {
    # None stands for every index of a list
    (
        "grpc",
        "allowed_hosts",
    ): "nothing could be refused by it, for gRPC's library does not tell which name was called; "
    "remove it. Say who may call with auth.tokens or grpc.tls.client_ca_file, or listen on loopback",
}
_CREDENTIALS = frozenset({"authorization", "cookie", "x-api-key"})
_BOOL = TypeAdapter(bool)


def options_without_effect(data: object) -> Iterator[Problem]:
    """Find options that are part of the schema and can't be carried out; none is silently ignored."""
    for pattern, why in _WITHOUT_EFFECT.items():
        for location, value in _matches(data, pattern, ()):
            if value not in (None, [], {}):
                yield Problem(location, why)


def declarations_fit(data: object) -> Iterator[Problem]:
    """Find names that are declared twice, collide in NATS, or are used but not declared."""
    yield from _events_fit(data)
    yield from _actors_differ(data)
    yield from _clocks_differ(data)
    names = {name for _, name in _matches(data, ("events", None, "name"), ()) if isinstance(name, str)}
    for pattern in (("actors", None, "event"), ("clocks", None, "event")):
        for location, event in _matches(data, pattern, ()):
            if isinstance(event, str) and event not in names:
                yield Problem(location, f"the event {event!r} is not declared; add it to events")


def _events_fit(data: object) -> Iterator[Problem]:
    streams: dict[str, str] = {}
    names: set[str] = set()
    for location, name in _matches(data, ("events", None, "name"), ()):
        if not isinstance(name, str):
            continue
        stream = stream_name(name)
        other = streams.setdefault(stream, name)
        if name in names:
            yield Problem(location, f"the event {name!r} is declared twice; remove one")
        elif other != name:
            yield Problem(location, f"{name!r} and {other!r} map to one stream, {stream!r}; rename one of the events")
        names.add(name)


def _actors_differ(data: object) -> Iterator[Problem]:
    actors: set[tuple[str, str]] = set()
    for location, actor in _matches(data, ("actors", None), ()):
        match actor:
            case {"name": str(name), "event": str(event)}:
                if (event, name) in actors:
                    yield Problem((*location, "name"), f"the actor {name!r} of {event!r} is declared twice; remove one")
                actors.add((event, name))


def _clocks_differ(data: object) -> Iterator[Problem]:
    events: set[str] = set()
    for location, event in _matches(data, ("clocks", None, "event"), ()):
        if isinstance(event, str) and event in events:
            yield Problem(location, f"the event {event!r} has two clocks; give each of them an event of its own")
        elif isinstance(event, str):
            events.add(event)


def secrets_stand_elsewhere(data: object) -> Iterator[Problem]:
    """Find credentials that stand in the file itself. The environment may hold them."""
    for location, server in _matches(data, ("nats", "servers", None), ()):
        if isinstance(server, str) and "@" in server:
            yield Problem(
                location,
                "an address must not carry credentials; use user and password: {env: NAME}, or token: {env: NAME}",
            )
    for location, headers in _matches(data, ("actors", None, "headers"), ()):
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if name.lower() in _CREDENTIALS and isinstance(value, str):
                    yield Problem(
                        (*location, name), "a secret never stands in the file itself; write {env: NAME} or {file: PATH}"
                    )


def listens_safely(data: object) -> Iterator[Problem]:
    """Find addresses that others can reach while nothing asks who calls: no token, no client certificate."""
    allowed = next((value for _, value in _matches(data, ("auth", "allow_insecure_listen"), ())), False)
    with contextlib.suppress(ValidationError):  # the field's own error says so
        if _BOOL.validate_python(allowed):
            return
    if [*_matches(data, ("auth", "tokens", None), ())]:
        return
    for section in ("grpc", "http", "admin"):
        if any(authority for _, authority in _matches(data, (section, "tls", "client_ca_file"), ())):
            continue
        for location, text in _matches(data, (section, "listen"), ()):
            try:
                address = parse_address(text)
            except (ValueError, AttributeError):
                continue  # the field's own error says so
            if isinstance(address, Tcp) and not address.is_loopback:
                yield Problem(
                    location,
                    f"{address} can be reached from other machines and nothing asks who calls; set auth.tokens, or "
                    f"{section}.tls with client_ca_file, or auth.allow_insecure_listen: true; or listen on loopback or a "
                    "Unix socket",
                )


def addresses_differ(config: Config) -> Iterator[Problem]:
    """Find addresses that can't be listened on because another part listens there; port 0 is any free one."""
    taken: dict[tuple[str, str], str] = {}
    if config.nats.embedded is not None:
        taken["127.0.0.1", str(config.nats.embedded.port)] = "nats.embedded.port"
    for section in ("grpc", "http", "admin", "monitoring"):
        settings: Grpc | Http | Admin | Monitoring | None = getattr(config, section)
        if settings is None:
            continue
        address = parse_address(settings.listen)
        if isinstance(address, Tcp) and address.port == 0:
            continue
        place = (address.path, "") if isinstance(address, Unix) else (_host(address.host), str(address.port))
        for other, name in taken.items():
            if place[1] == other[1] and (place[0] == other[0] or (place[1] and _EVERYWHERE & {place[0], other[0]})):
                yield Problem((section, "listen"), f"{address} is taken by {name}; give one of them another address")
        taken[place] = f"{section}.listen"


_EVERYWHERE = {"0.0.0.0", "::"}


def _host(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def expressions_compile(actor: Actor, location: Location) -> Iterator[Problem]:
    """Find expressions of an actor that can't be used."""
    if actor.filter is not None:
        try:
            Filter(actor.filter)
        except ValueError as error:
            yield Problem((*location, "filter"), str(error))


def _matches(data: object, pattern: tuple[str | None, ...], location: Location) -> Iterator[tuple[Location, Any]]:
    if not pattern:
        yield location, data
    elif pattern[0] is None:
        if isinstance(data, list):
            for index, item in enumerate(data):
                yield from _matches(item, pattern[1:], (*location, index))
    elif isinstance(data, Mapping) and pattern[0] in data:
        yield from _matches(data[pattern[0]], pattern[1:], (*location, pattern[0]))
