"""Streams and consumers: what is declared, what is there, and what may be written.

Only declared keys are written; the server's value stands for everything else, because an update with omitted keys sets
them back to defaults. What differs and isn't written is drift.
"""

import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from walnatsd.broker import order
from walnatsd.broker.errors import STREAM_EXISTS, ApiError
from walnatsd.broker.inspection import consumers
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.wire import from_ns, to_ns
from walnatsd.config.settings import Manage
from walnatsd.model.actor import Actor
from walnatsd.model.event import Event
from walnatsd.model.refusal import Reason, Refusal

_UNLIMITED = -1
_NAME_IN_USE = 10148  # a consumer is created that exists with another config
_TOO_MANY_CONSUMERS = 10026
_TEMPORARY = 503


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a declaration."""

    created: bool = False
    """It was created now."""
    updated: tuple[str, ...] = ()
    """The keys that were changed now."""
    drift: tuple[str, ...] = ()
    """What differs from the declaration and was not written, with the reason."""
    pinned: bool = False
    """Of an ordered actor: whether its consumer serves one client at a time. Otherwise it has `max_ack_pending: 1`."""


@dataclass(slots=True)
class Change:
    """The difference between a declaration and what is there."""

    config: dict[str, Any]
    """The server's config with the declared keys written into it."""
    updated: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


# ---- events


async def register_event(
    jetstream: JetStream, event: Event, manage: Manage, *, force: bool = False, dry_run: bool = False
) -> Registered:
    """Create the event's stream or update what differs.

    Args:
        jetstream: The API.
        event: The declaration.
        manage: What may be done.
        force: Also write what discards stored messages or reduces replicas.
        dry_run: Only say what would be done.

    Raises:
        Refusal: CONFLICT: there is a stream of this name that is no event's, or the server does not accept the config.
        BrokerError: NATS did not answer.
    """
    info = await jetstream.stream(event.stream)
    if info is None:
        if not manage.create:
            raise Refusal(Reason.CONFLICT, f"the stream {event.stream!r} is missing, and nats.manage.create is false")
        if dry_run:
            return Registered(created=True)
        try:
            await jetstream.request(f"STREAM.CREATE.{event.stream}", new_stream(event))
        except ApiError as error:
            if error.err_code == STREAM_EXISTS:  # another sidecar was faster
                return await register_event(jetstream, event, manage, force=force)
            raise _not_accepted(f"the stream {event.stream!r} of the event {event.name!r}", error) from None
        return Registered(created=True)
    change = stream_change(event, info["config"], info["state"], force=force)
    what = f"the stream {event.stream!r}"
    write = functools.partial(jetstream.request, f"STREAM.UPDATE.{event.stream}")
    return await _write(write, change, manage, what, dry_run=dry_run)


def new_stream(event: Event) -> dict[str, Any]:
    """Give the config of a stream that does not exist yet: as the walnats library creates it, with the declared keys."""
    config: dict[str, Any] = {"name": event.stream, "subjects": [event.name], "retention": "interest"}
    return config | {name: value for _, name, value in _stream_keys(event, declared_only=False)}


def stream_change(event: Event, config: Mapping[str, Any], state: Mapping[str, Any], *, force: bool) -> Change:
    """Compare a declaration with a stream.

    Raises:
        Refusal: CONFLICT: the stream is no event's, or not this event's.
    """
    subjects = config.get("subjects") or []
    if subjects != [event.name]:
        raise Refusal(
            Reason.CONFLICT,
            f"the stream {event.stream!r} has the subjects {', '.join(subjects) or '(none)'}, but the event "
            f"{event.name!r} needs it to have just {event.name!r}; rename the event, or remove the stream if it is unused",
        )
    if config.get("retention") != "interest":
        raise Refusal(
            Reason.CONFLICT,
            f"the stream {event.stream!r} has the retention {config.get('retention')!r}; an event's is 'interest', and "
            "NATS can't change it; rename the event, or remove the stream if it is unused",
        )
    if config.get("no_ack"):
        raise Refusal(
            Reason.CONFLICT,
            f"the stream {event.stream!r} does not acknowledge what it stores (no_ack), so nobody could know that a message "
            "is stored; rename the event, or switch that off",
        )
    change = Change(dict(config))
    for path, name, value in _stream_keys(event, declared_only=True):
        present = config.get(name, _SERVER_DEFAULTS.get(name))
        if present == value:
            continue
        reason = _FIXED_STREAM_KEYS.get(name) or ("" if force else _what_is_lost(name, value, present, config, state))
        if reason:
            change.drift.append(
                f"{path}: declared {_in_words(name, value)}, the stream has {_in_words(name, present)}: {reason}"
            )
        else:
            change.config[name] = value
            change.updated.append(path)
    age, window = change.config.get("max_age", 0), change.config.get("duplicate_window", 0)
    if age and window > age and "duplicate_window" not in event.model_fields_set:
        change.config["duplicate_window"] = age  # the server wants it no longer than the age
        change.updated.append("duplicate_window")
    return change


_SERVER_DEFAULTS: Mapping[str, Any] = {
    "max_age": 0, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msg_size": -1, "description": "",
}  # fmt: skip
_FIXED_STREAM_KEYS: Mapping[str, str] = {
    "storage": "NATS can't change the storage of a stream",
    "max_consumers": "NATS can't change this limit of a stream",
}


def _stream_keys(event: Event, *, declared_only: bool) -> list[tuple[str, str, Any]]:
    """List path, the server's name and the server's value of the declared keys, or of all."""
    limits = event.limits
    keys = [
        (event, "description", "description", "description", event.description or ""),
        (limits, "age", "limits.age", "max_age", to_ns(limits.age) if limits.age else 0),
        (limits, "consumers", "limits.consumers", "max_consumers", limits.consumers or _UNLIMITED),
        (limits, "messages", "limits.messages", "max_msgs", limits.messages or _UNLIMITED),
        (limits, "bytes", "limits.bytes", "max_bytes", limits.bytes or _UNLIMITED),
        (limits, "message_size", "limits.message_size", "max_msg_size", limits.message_size or _UNLIMITED),
        (limits, "when_full", "limits.when_full", "discard", "old" if limits.when_full == "drop_oldest" else "new"),
        (event, "duplicate_window", "duplicate_window", "duplicate_window", _duplicate_window_ns(event)),
        (event, "replicas", "replicas", "num_replicas", event.replicas),
        (event, "storage", "storage", "storage", event.storage),
    ]
    return [
        (path, name, value)
        for part, key, path, name, value in keys
        if not declared_only or key in part.model_fields_set
    ]


def _duplicate_window_ns(event: Event) -> int:
    """Cap the default window by the age, as the server demands (10052 otherwise)."""
    window_s = event.duplicate_window
    if "duplicate_window" not in event.model_fields_set and event.limits.age is not None:
        window_s = min(window_s, event.limits.age)
    return to_ns(window_s)


def _in_words(name: str, value: Any) -> str:
    """Write a value of the server as a config file would."""
    if value in (_UNLIMITED, 0):
        return "none"
    return f"{from_ns(value):g}s" if name in {"max_age", "duplicate_window"} else str(value)


def _what_is_lost(name: str, value: Any, present: Any, config: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Say why an update would lose something; empty where it would not."""
    messages, size = state.get("messages", 0), state.get("bytes", 0)
    remedy = "; walnatsd apply --force writes it"
    if name == "num_replicas" and value < present:
        return f"it would reduce the replicas{remedy}"
    if value == _UNLIMITED:
        return ""
    if name == "max_msgs" and messages > value:
        return f"it would discard {messages - value} stored messages{remedy}"
    if name == "max_bytes" and size > value:
        return f"it would discard about {size - value} bytes of stored messages{remedy}"
    if name == "max_age" and value and (not present or value < present) and messages:
        return f"it would discard stored messages as they get older than that{remedy}"
    if (
        name == "discard"
        and value == "old"
        and (messages > config.get("max_msgs", _UNLIMITED) > 0 or size > config.get("max_bytes", _UNLIMITED) > 0)
    ):
        return f"it would discard stored messages beyond the limits{remedy}"
    return ""


# ---- actors


async def register_actor(jetstream: JetStream, actor: Actor, manage: Manage, *, dry_run: bool = False) -> Registered:
    """Create the actor's consumer or update what differs. A consumer that walnats created is adopted.

    Raises:
        Refusal: CONFLICT: there is a consumer of this name that no actor can use, or the server does not accept it.
        BrokerError: NATS did not answer.
    """
    what = f"the consumer {actor.name!r} of the stream {actor.stream!r}"
    info = await jetstream.consumer(actor.stream, actor.name)
    if info is None:
        if not manage.create:
            raise Refusal(Reason.CONFLICT, f"{what} is missing, and nats.manage.create is false")
        if dry_run:
            return Registered(created=True)
        body = {"stream_name": actor.stream, "action": "create", "config": new_consumer(actor)}
        try:
            answer = await jetstream.request(f"CONSUMER.CREATE.{actor.stream}.{actor.name}", body)
        except ApiError as error:
            if error.err_code == _NAME_IN_USE:  # another sidecar was faster
                return await register_actor(jetstream, actor, manage)
            if error.err_code == _TOO_MANY_CONSUMERS:
                raise await _no_room_for(jetstream, actor, what) from None
            raise _not_accepted(what, error) from None
        completing = manage.model_copy(update={"update": True})  # what follows is part of the creation
        pinned = await _keep_order(jetstream, actor, answer["config"], completing, what)
        return Registered(created=True, pinned=pinned)
    change = consumer_change(actor, info["config"])
    write = functools.partial(jetstream.update_consumer, actor.stream, actor.name)
    registered = await _write(write, change, manage, what, dry_run=dry_run)
    if dry_run:
        return registered
    present = change.config if registered.updated else info["config"]
    pinned = await _keep_order(jetstream, actor, present, manage, what)
    return dataclasses.replace(registered, pinned=pinned)


async def _no_room_for(jetstream: JetStream, actor: Actor, what: str) -> Refusal:
    names = sorted(consumer.name for consumer in await consumers(jetstream, actor.stream) or [])
    return Refusal(
        Reason.CONFLICT,
        f"there is no room for {what}: limits.consumers of the event, or max_consumers of the NATS account, is reached by {', '.join(names)[:500]}; delete one that is "
        "not needed (walnatsd actors delete). The limit itself is fixed when NATS creates the stream",
    )


async def _keep_order(jetstream: JetStream, actor: Actor, config: Mapping[str, Any], manage: Manage, what: str) -> bool:
    """See that the consumer of an ordered actor, as the server shows it, keeps the order.

    Returns:
        Whether it does so by serving one client at a time.

    Raises:
        Refusal: CONFLICT: it does not, and may not be changed.
    """
    if actor.order_by is None:
        return False
    if not order.keeps_order(config) and manage.update:  # created just now on a server before 2.11
        change = consumer_change(actor, config)
        write = functools.partial(jetstream.update_consumer, actor.stream, actor.name)
        await _write(write, change, manage, what, dry_run=False)
        config = change.config
    if not order.keeps_order(config):
        raise Refusal(
            Reason.CONFLICT,
            f"{what} can't keep the order: it has neither the pinned priority group {order.GROUP!r} (nats-server 2.11) "
            "nor max_ack_pending 1" + ("" if manage.update else ", and nats.manage.update is false"),
        )
    return order.is_pinned(config)


def new_consumer(actor: Actor) -> dict[str, Any]:
    """Give the config of a consumer that does not exist yet."""
    config: dict[str, Any] = {
        "durable_name": actor.name,
        "name": actor.name,
        "ack_policy": "explicit",
        "deliver_policy": _deliver_policy(actor),
        "replay_policy": "instant",
        "num_replicas": 0,  # those of the stream: on interest retention nothing else is accepted (10134)
    }
    config |= {name: value for _, name, value in _consumer_keys(actor, declared_only=False)}
    return config | (order.pinned_group(actor) if actor.order_by is not None else {})


def consumer_change(actor: Actor, config: Mapping[str, Any]) -> Change:
    """Compare a declaration with a consumer.

    Raises:
        Refusal: CONFLICT: no actor can use the consumer.
    """
    what = f"the consumer {actor.name!r} of the stream {actor.stream!r}"
    remedy = "NATS can't change it; rename the actor, or remove the consumer if it is unused"
    if config.get("deliver_subject"):
        raise Refusal(Reason.CONFLICT, f"{what} is a push consumer, an actor needs a pull consumer; {remedy}")
    if config.get("ack_policy") != "explicit":
        raise Refusal(
            Reason.CONFLICT, f"{what} has the ack policy {config.get('ack_policy')!r}, an actor's is explicit; {remedy}"
        )
    change = Change(dict(config))
    if "start" in actor.model_fields_set and config.get("deliver_policy") != _deliver_policy(actor):
        change.drift.append(
            f"start: declared {actor.start}, the consumer has the deliver policy {config.get('deliver_policy')}: "
            "it is fixed at creation"
        )
    keys = {name: (path, value) for path, name, value in _consumer_keys(actor, declared_only=True)}
    keys |= {name: ("order_by", value) for name, value in order.order_settings(actor, config).items()}
    for name, (path, value) in keys.items():
        if config.get(name, _CONSUMER_DEFAULTS.get(name)) != value:
            change.config[name] = value
            change.updated.append(path)
    # what stands for "left out" must be left out: null is no priority policy
    change.config = {name: value for name, value in change.config.items() if value is not None}
    return change


_CONSUMER_DEFAULTS: Mapping[str, Any] = {"description": "", "max_deliver": _UNLIMITED}


def _deliver_policy(actor: Actor) -> str:
    return "all" if actor.start == "retained" else "new"


def _consumer_keys(actor: Actor, *, declared_only: bool) -> list[tuple[str, str, Any]]:
    keys = [
        ("description", "description", actor.description or ""),
        ("ack_wait", "ack_wait", to_ns(actor.ack_wait)),
        ("max_ack_pending", "max_ack_pending", actor.max_ack_pending),
    ]
    if declared_only:
        keys = [key for key in keys if key[0] in actor.model_fields_set]
    # On interest retention a message that used up the server's max_deliver stays stored for ever, so walnatsd counts
    # attempts itself; the server's backoff would override the delay of a nak.
    # An actor gets the payload, whatever the consumer was made for.
    return [*keys, ("retry", "max_deliver", _UNLIMITED), ("retry", "backoff", None), ("payload", "headers_only", None)]


# ---- both


async def _write(
    write: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
    change: Change,
    manage: Manage,
    what: str,
    *,
    dry_run: bool,
) -> Registered:
    """Write what differs with `write`, which takes a config and gives the server's answer, as far as that is allowed."""
    if not change.updated:
        return Registered(drift=tuple(change.drift))
    if not manage.update:
        drift = [*change.drift, *(f"{path}: differs, and nats.manage.update is false" for path in change.updated)]
        return Registered(drift=tuple(drift))
    if not dry_run:
        try:
            change.config = (await write(change.config))["config"]
        except ApiError as error:
            raise _not_accepted(what, error) from None
    return Registered(updated=tuple(dict.fromkeys(change.updated)), drift=tuple(change.drift))


def _not_accepted(what: str, error: ApiError) -> Refusal:
    if error.code == _TEMPORARY:
        return Refusal(Reason.NATS_UNAVAILABLE, f"JetStream can't register {what} now: {error}", retry_after_s=1.0)
    return Refusal(Reason.CONFLICT, f"NATS does not accept {what}: {error}")
