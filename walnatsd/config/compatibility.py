"""What is different between two config files for those who emit and act already: what breaks them, and what does not.

Undeclared keys change nothing, for the server's value stands for them. What concerns only the sidecar itself (addresses,
retries, the actor's URL) is not compared.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from walnatsd.config.load import Loaded
from walnatsd.config.problems import Location, Problem
from walnatsd.model.actor import Actor
from walnatsd.model.declared import Secret
from walnatsd.model.event import Codec, Event, Limits
from walnatsd.payload.schema_evolution import schema_changes


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is different now."""

    problem: Problem
    """What, with the place in the new file."""
    breaks: bool
    """Whether somebody who relied on the old file notices."""


def differences(old: Loaded, new: Loaded) -> Iterator[Difference]:
    """Compare two config files.

    Raises:
        ValueError: A schema can't be read; in words.
    """
    yield from _events(old, new)
    yield from _actors(old, new)
    emitted = {clock.event for clock in new.config.clocks}
    for event in dict.fromkeys(clock.event for clock in old.config.clocks):
        if event not in emitted:
            yield _breaking(("clocks",), f"the clock of {event!r} is gone; nothing emits it by the time any more")


def _breaking(at: Location, message: str) -> Difference:
    return Difference(Problem(at, message), breaks=True)


def _compatible(at: Location, message: str) -> Difference:
    return Difference(Problem(at, message), breaks=False)


# ---- events


def _events(old: Loaded, new: Loaded) -> Iterator[Difference]:
    was = {event.name: event for event in old.config.events}
    now = {event.name: (index, event) for index, event in enumerate(new.config.events)}
    for name in was:
        if name not in now:
            yield _breaking(("events",), f"the event {name!r} is gone; who emits it is told UNKNOWN_EVENT")
    for name, (index, event) in now.items():
        at: Location = ("events", index)
        if name not in was:
            yield _compatible(at, f"the event {name!r} is new")
            continue
        yield from _stream(was[name], event, at)
        yield from _limits(was[name].limits, event.limits, (*at, "limits"))
        yield from _codecs(was[name].codecs, event.codecs, _Keys(old), _Keys(new), (*at, "codecs"))
        for change in schema_changes(was[name].payload_schema, event.payload_schema):
            where = (*at, "schema") if event.payload_schema is not None else at
            yield Difference(Problem(where, str(change)), change.breaks)


def _stream(old: Event, new: Event, at: Location) -> Iterator[Difference]:
    declared = new.model_fields_set
    if "storage" in declared and new.storage != old.storage:
        message = f"was {old.storage}, is {new.storage}, and NATS can't change the storage of a stream"
        yield _breaking((*at, "storage"), message)
    if "replicas" in declared and new.replicas != old.replicas:
        message = f"was {old.replicas}, is {new.replicas}"
        fewer = new.replicas < old.replicas
        yield _breaking((*at, "replicas"), message) if fewer else _compatible((*at, "replicas"), message)
    if "duplicate_window" in declared and new.duplicate_window != old.duplicate_window:
        message = f"was {old.duplicate_window:g}s, is {new.duplicate_window:g}s"
        shorter = new.duplicate_window < old.duplicate_window
        yield _compatible((*at, "duplicate_window"), message + ("; a uid is forgotten sooner" if shorter else ""))
    if new.min_actors != old.min_actors:
        message = f"was {old.min_actors}, is {new.min_actors}"
        more = new.min_actors > old.min_actors
        yield _compatible((*at, "min_actors"), message + ("; with fewer, emits are refused" if more else ""))


def _limits(old: Limits, new: Limits, at: Location) -> Iterator[Difference]:
    for key, consequence in (
        ("age", "older messages are discarded"),
        ("messages", "the oldest beyond that are discarded"),
        ("bytes", "the oldest beyond that are discarded"),
        ("message_size", "larger messages are refused"),
    ):
        was, now = getattr(old, key), getattr(new, key)
        if key not in new.model_fields_set or was == now:
            continue
        message = f"was {_in_words(key, was)}, is {_in_words(key, now)}"
        if now is not None and (was is None or now < was):
            yield _breaking((*at, key), f"{message}; {consequence}")
        else:
            yield _compatible((*at, key), message)
    if "consumers" in new.model_fields_set and old.consumers != new.consumers:
        message = f"was {old.consumers or 'not set'}, is {new.consumers or 'not set'}"
        yield _breaking((*at, "consumers"), f"{message}, and NATS can't change this limit of a stream")
    if "when_full" in new.model_fields_set and old.when_full != new.when_full:
        if new.when_full == "refuse":
            yield _compatible((*at, "when_full"), "emits are refused when the stream is full; the oldest was dropped")
        else:
            message = "the oldest message is dropped when the stream is full, handled or not; emits were refused"
            yield _breaking((*at, "when_full"), message)


def _in_words(key: str, value: float | None) -> str:
    if value is None:
        return "not limited"
    return f"{value:g}s" if key == "age" else f"{value}"


# ---- codecs


class _Keys:
    """Names of keys, so that those of two files in different folders can be compared."""

    def __init__(self, loaded: Loaded) -> None:
        self._folder = Path(loaded.file or ".").resolve().parent

    def name(self, secret: Secret) -> str:
        if secret.env is not None:
            return f"{{env: {secret.env}}}"
        return f"{{file: {os.path.relpath(secret.file or '', self._folder)}}}"


def _codecs(
    old: tuple[Codec, ...], new: tuple[Codec, ...], old_keys: _Keys, new_keys: _Keys, at: Location
) -> Iterator[Difference]:
    was, now = ([next(iter(codec.model_dump(exclude_none=True))) for codec in each] for each in (old, new))
    if was != now:
        yield _breaking(
            at,
            f"were {', '.join(was) or 'none'}, are {', '.join(now) or 'none'}; sidecars with the old file can't read what is "
            "emitted, and those with the new one can't read what is stored",
        )
        return
    for index, (one, other) in enumerate(zip(old, new, strict=True)):
        below = (*at, index, now[index])
        if one.hmac is not None and other.hmac is not None and one.hmac.hash != other.hmac.hash:
            message = f"was {one.hmac.hash}, is {other.hmac.hash}; neither file can read what the other one made"
            yield _breaking((*below, "hash"), message)
        before, after = one.hmac or one.fernet, other.hmac or other.fernet
        if before is not None and after is not None:
            names = [old_keys.name(key) for key in before.keys], [new_keys.name(key) for key in after.keys]
            yield from _key_names(*names, (*below, "keys"))


def _key_names(was: list[str], now: list[str], at: Location) -> Iterator[Difference]:
    if now[0] not in was:
        yield _breaking(
            (*at, 0),
            f"sidecars with the old file don't have the key {now[0]}; give it to them first, behind the others",
        )
    if was[0] not in now:
        yield _breaking(at, f"the key {was[0]} is gone, and what is stored was made with it")
    for name in was[1:]:
        if name not in now:
            yield _compatible(at, f"the key {name}, which only read what is stored, is gone")
    for index, name in enumerate(now[1:], start=1):
        if name not in was:
            yield _compatible((*at, index), f"the key {name} is known now")


# ---- actors


def _actors(old: Loaded, new: Loaded) -> Iterator[Difference]:
    was = {(actor.event, actor.name): actor for actor in old.config.actors}
    now = {(actor.event, actor.name): (index, actor) for index, actor in enumerate(new.config.actors)}
    for event, name in was:
        if (event, name) not in now:
            yield _breaking(
                ("actors",),
                f"the actor {name!r} of {event!r} is gone; its consumer stays and holds messages back until somebody runs: "
                f"walnatsd actors delete {event} {name}",
            )
    for key, (index, actor) in now.items():
        at: Location = ("actors", index)
        if key not in was:
            yield _compatible(at, f"the actor {actor.name!r} of {actor.event!r} is new")
        else:
            yield from _actor(was[key], actor, at)


def _actor(old: Actor, new: Actor, at: Location) -> Iterator[Difference]:
    if "start" in new.model_fields_set and old.start != new.start:
        yield _breaking(
            (*at, "start"), f"was {old.start}, is {new.start}, and NATS can't change the start of a consumer"
        )
    if old.responds and not new.responds:
        yield _breaking((*at, "responds"), "requests are not answered any more")
    elif new.responds and not old.responds:
        yield _compatible((*at, "responds"), "requests are answered now")
