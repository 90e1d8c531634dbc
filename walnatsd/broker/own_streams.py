"""walnatsd's own streams: created where they are missing, changed only where they lack something.

`walnatsd` is a work queue: schedules wait in it, and so does what is for one actor only. Servers before 2.12 have no
schedules; they drop the settings without a word, so what a server can do is read from the config that comes back.
"""

from collections.abc import Mapping
from typing import Any

import structlog

from walnatsd.broker.errors import STREAM_EXISTS, STREAM_NOT_FOUND, ApiError
from walnatsd.broker.jetstream import JetStream
from walnatsd.model.refusal import Reason, Refusal

WORK = "walnatsd"
SCHEDULES = "walnatsd.schedule."
DUE = "walnatsd.due."
ROUTES = "walnatsd.actor."

_log = structlog.get_logger("walnatsd.streams")


async def register_work_stream(jetstream: JetStream, *, replicas: int) -> bool:
    """Create the stream `walnatsd` or add what it lacks.

    Returns:
        Whether the server has schedules.

    Raises:
        Refusal: CONFLICT: there is another kind of stream of this name.
        BrokerError: NATS did not answer, or does not accept it.
    """
    config = await register(
        jetstream,
        {
            "name": WORK,
            "description": "What waits: delayed emits, and messages for one actor only.",
            "subjects": [f"{SCHEDULES}>", f"{DUE}>", f"{ROUTES}>"],
            "retention": "workqueue",
            # no limits, so nothing is discarded; the server does not let schedules go with discard: new
            "duplicate_window": 120_000_000_000,
            "num_replicas": replicas,
            "allow_msg_schedules": True,
            "allow_msg_ttl": True,
        },
    )
    return bool(config.get("allow_msg_schedules"))


async def register(jetstream: JetStream, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Create a stream of our own, or add what it lacks: subjects, replicas, what is allowed. Gives its config.

    Raises:
        Refusal: CONFLICT: there is another kind of stream of this name.
        BrokerError: NATS did not answer, or does not accept it.
    """
    name = wanted["name"]
    info = await jetstream.stream(name)
    if info is None:
        try:
            return dict((await jetstream.request(f"STREAM.CREATE.{name}", wanted))["config"])
        except ApiError as error:
            if error.err_code != STREAM_EXISTS:
                raise
            return await register(jetstream, wanted)  # another sidecar was faster
    present: dict[str, Any] = info["config"]
    if present.get("retention") != wanted["retention"]:
        raise Refusal(
            Reason.CONFLICT,
            f"the stream {name!r} has the retention {present.get('retention')!r}, walnatsd's own stream of this name has "
            f"{wanted['retention']!r}; remove that stream, for the name is reserved",
        )
    lacking = _lacking(wanted, present)
    if not lacking:
        return present
    try:
        return dict((await jetstream.request(f"STREAM.UPDATE.{name}", present | lacking))["config"])
    except ApiError as error:
        _log.warning(
            "NATS does not accept an update of walnatsd's own stream; it stays as it is", stream=name, why=str(error)
        )
        return present


async def register_consumer(jetstream: JetStream, stream: str, name: str, *, ack_wait_ns: int, **more: Any) -> None:
    """Create a durable consumer on a stream of our own, or bring it up to date. What waits in it is never given up.

    Args:
        jetstream: The API.
        stream: Name of the stream.
        name: Name of the consumer.
        ack_wait_ns: How long a message may be in somebody's hands before it is handed over again.
        more: Other keys of its config, as the API has them.

    Raises:
        BrokerError: NATS did not answer, or does not accept it.
    """
    config = {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_wait": ack_wait_ns,
        "max_ack_pending": -1,
        "max_deliver": -1,
        "num_replicas": 0,
        **more,
    }
    await jetstream.request(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def purge(jetstream: JetStream, subject: str) -> bool:
    """Discard what is stored on a subject of the stream `walnatsd`; say whether there was anything.

    Raises:
        BrokerError: NATS did not answer.
    """
    try:
        answer = await jetstream.request(f"STREAM.PURGE.{WORK}", {"filter": subject})
    except ApiError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        return False
    return bool(answer.get("purged"))


def _lacking(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    lacking: dict[str, Any] = {
        key: True for key, value in wanted.items() if key.startswith("allow_") and value and not present.get(key)
    }
    subjects = present.get("subjects") or []
    if missing := [subject for subject in wanted["subjects"] if subject not in subjects]:
        lacking["subjects"] = [*subjects, *missing]
    if wanted["num_replicas"] > present.get("num_replicas", 1):
        lacking["num_replicas"] = wanted["num_replicas"]
    return lacking
