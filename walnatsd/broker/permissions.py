"""What a sidecar's NATS user must be allowed, and no more: subjects to publish and to subscribe to, by what they are for."""

from collections.abc import Iterator
from dataclasses import dataclass

from walnatsd.broker import dead_letters, drops, max_deliveries
from walnatsd.broker.clock_schedules import PLACE
from walnatsd.broker.own_streams import ROUTES, SCHEDULES, WORK
from walnatsd.broker.route import consumer_name
from walnatsd.broker.schedules import DUE_CONSUMER
from walnatsd.config.settings import Config
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event


@dataclass(frozen=True, slots=True)
class Group:
    """Subjects that are for one thing."""

    purpose: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    seldom: bool = False
    """Whether it is for the moment of a deletion only."""


def permissions(config: Config) -> Iterator[Group]:
    """Say what a sidecar with this config needs."""
    nats = config.nats
    api = f"$JS.{nats.domain}.API" if nats.domain is not None else "$JS.API"
    manage = nats.manage
    events = {event.name: event for event in config.events}
    yield Group(
        "every sidecar: answers, the version of JetStream, messages that the server terminates",
        (f"{api}.INFO",),
        (f"{nats.inbox_prefix}.>", drops.ADVISORIES),
    )
    yield from _own_streams(api)
    for event in config.events:
        yield _event(api, event, creates=manage.create, updates=manage.update)
    for actor in config.actors:
        yield from _actor(api, actor)
    if clocks := [events[clock.event] for clock in config.clocks if clock.event in events]:
        yield Group("clocks", tuple(f"{SCHEDULES}{PLACE}.{event.stream}.*" for event in clocks))
    if any(actor.responds for actor in config.actors):
        yield Group("actors that respond: the answers", tuple(f"{prefix}>" for prefix in nats.reply_prefixes))
    yield Group(
        "live feeds (monitor, tail)",
        subscribe=tuple(event.name for event in config.events),
    )
    letters = dead_letters.STREAM
    yield Group(
        "dead letters: list, show, replay and discard them here",
        (f"{api}.STREAM.MSG.GET.{letters}", f"{api}.STREAM.MSG.DELETE.{letters}"),
    )
    yield Group(
        "walnatsd events delete, walnatsd actors delete",
        (
            *(f"{api}.STREAM.DELETE.{event.stream}" for event in config.events),
            *(
                f"{api}.CONSUMER.DELETE.{consumer}"
                for actor in config.actors
                for consumer in (f"{actor.stream}.{actor.name}", f"{WORK}.{consumer_name(actor.stream, actor.name)}")
            ),
        ),
        seldom=True,
    )


def _own_streams(api: str) -> Iterator[Group]:
    letters, given_up = dead_letters.STREAM, max_deliveries.STREAM
    yield Group(
        "walnatsd's own streams",
        tuple(
            f"{api}.STREAM.{verb}.{name}" for verb in ("INFO", "CREATE", "UPDATE") for name in (WORK, letters, given_up)
        ),
    )
    yield Group(
        "delayed emits: store, list, cancel, and emit those that are due",
        (
            f"{api}.STREAM.MSG.GET.{WORK}",
            f"{api}.STREAM.PURGE.{WORK}",
            f"{api}.CONSUMER.NAMES.{WORK}",
            *_pull(api, WORK, DUE_CONSUMER),
        ),
    )
    yield Group("messages that the server gives up", _pull(api, given_up, max_deliveries.CONSUMER))


def _event(api: str, event: Event, *, creates: bool, updates: bool) -> Group:
    stream = event.stream
    operations = ["STREAM.INFO", *(["STREAM.CREATE"] if creates else []), *(["STREAM.UPDATE"] if updates else [])]
    return Group(
        f"the event {event.name}: emit it, now and later; watch how full it is",
        (
            event.name,
            f"{SCHEDULES}{stream}.*",
            *(f"{api}.{operation}.{stream}" for operation in operations),
            f"{api}.CONSUMER.LIST.{stream}",
            f"{api}.STREAM.MSG.GET.{stream}",
        ),
    )


def _actor(api: str, actor: Actor) -> Iterator[Group]:
    stream, name = actor.stream, actor.name
    ordered = (f"{api}.CONSUMER.UNPIN.{stream}.{name}",) if actor.order_by is not None else ()
    yield Group(
        f"the actor {name} of {actor.event}: register it, pull, settle, pause, give up",
        (
            *_pull(api, stream, name),
            f"{api}.CONSUMER.PAUSE.{stream}.{name}",
            *ordered,
            f"{dead_letters.PREFIX}{stream}.{name}",
        ),
    )
    own = consumer_name(stream, name)
    parked = () if actor.order_by is not None else (f"{SCHEDULES}{WORK}.{stream}.{name}.*",)
    yield Group(
        f"what is for {name} alone: long waits and replays",
        (
            *parked,  # in order, a message that waits stays in its place
            f"{ROUTES}{stream}.{name}",
            *_pull(api, WORK, own),
            f"{api}.CONSUMER.PAUSE.{WORK}.{own}",
        ),
    )


def _pull(api: str, stream: str, consumer: str) -> tuple[str, ...]:
    return (
        f"{api}.CONSUMER.CREATE.{stream}.{consumer}",
        f"{api}.CONSUMER.INFO.{stream}.{consumer}",
        f"{api}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    )
