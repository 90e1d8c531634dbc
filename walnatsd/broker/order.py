"""What keeps the order in NATS: one client at a time serves the consumer, or one message at a time is unsettled."""

from collections.abc import Mapping
from typing import Any

from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.wire import to_ns
from walnatsd.model.actor import Actor

GROUP = "order"
"""Name of the only priority group of an ordered actor's consumer."""

LEAST_PIN_TIMEOUT_S = 1.0
LONGEST_PIN_TIMEOUT_S = 30.0

_POLICY = "pinned_client"
_PINNED_KEYS = ("priority_groups", "priority_policy", "priority_timeout")
_LEVEL = "_nats.level"
"""Servers from 2.11 on write it into the metadata of every consumer they show; older ones drop the priority settings."""
_ONE_AT_A_TIME = "walnatsd.order"
"""Marks in the metadata that `max_ack_pending: 1` is ours, so that it can be taken back."""


def pin_timeout_s(actor: Actor) -> float:
    """How long the server keeps a silent sidecar pinned.

    It is `ack_wait`, within limits: what a dead sidecar held comes back after `ack_wait` in any case, so that a shorter
    timeout would gain nothing, and a longer one would delay the takeover.
    """
    return min(max(actor.ack_wait, LEAST_PIN_TIMEOUT_S), LONGEST_PIN_TIMEOUT_S)


def pinned_group(actor: Actor) -> dict[str, Any]:
    """Give the settings of a consumer that serves one client at a time (nats-server 2.11, ADR-42)."""
    return {
        "priority_groups": [GROUP],
        "priority_policy": _POLICY,
        "priority_timeout": to_ns(pin_timeout_s(actor)),
    }


def is_pinned(config: Mapping[str, Any]) -> bool:
    """Whether a consumer serves one client of our group at a time."""
    return config.get("priority_policy") == _POLICY and config.get("priority_groups") == [GROUP]


def keeps_order(config: Mapping[str, Any]) -> bool:
    """Whether a consumer can serve an ordered actor."""
    return is_pinned(config) or config.get("max_ack_pending") == 1


def order_settings(actor: Actor, config: Mapping[str, Any]) -> dict[str, Any]:
    """Give what must be written into a consumer because of `order_by`, or because it was taken away.

    Args:
        actor: The declaration.
        config: The consumer's config as the server shows it.

    Returns:
        Settings by name; None stands for one that must be left out.
    """
    settings: dict[str, Any] = {}
    metadata = config.get("metadata") or {}
    is_ordered, can_pin = actor.order_by is not None, _LEVEL in metadata
    if is_ordered and can_pin:
        settings |= pinned_group(actor)
    elif is_pinned(config):
        settings |= dict.fromkeys(_PINNED_KEYS)
    if is_ordered and not can_pin:
        settings |= {"max_ack_pending": 1, "metadata": {**metadata, _ONE_AT_A_TIME: "one at a time"}}
    elif _ONE_AT_A_TIME in metadata:
        others = {name: value for name, value in metadata.items() if name != _ONE_AT_A_TIME}
        settings |= {"max_ack_pending": actor.max_ack_pending, "metadata": others}
    return settings


async def count_unsettled(jetstream: JetStream, actor: Actor, *, stored: bool) -> int | None:
    """Count the messages that were handed over and are not settled.

    Args:
        jetstream: The API.
        actor: Whose.
        stored: Count only those that can be in the stream still. After a crash a server may wait for the settlement of
            messages which were settled and removed before it (tried on 2.11.11): they never come again.

    Returns:
        How many; None where nobody can tell.
    """
    try:
        info = await jetstream.consumer(actor.stream, actor.name)
        if info is None:
            return None
        unsettled = int(info["num_ack_pending"])
        # The stream is read after the consumer: what is emitted in between can only make the number larger.
        if stored and (stream := await jetstream.stream(actor.stream)) is not None:
            unsettled = min(unsettled, int(stream["state"]["messages"]) - int(info["num_pending"]))
    except BrokerError:
        return None
    return unsettled
