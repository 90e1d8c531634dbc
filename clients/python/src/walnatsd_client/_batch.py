"""Batches as webhooks: CloudEvents in one request, a result for each in the answer."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from walnatsd_client._actor import BatchActor
from walnatsd_client._delivery import Delivery, Reject, Retry
from walnatsd_client._handling import Done, handle_messages

BATCH_TYPE = "application/cloudevents-batch+json"


async def handle_batch(actor: BatchActor[Any], headers: Mapping[str, str], body: bytes) -> bytes | Reject | Retry:
    """Handle a request with many messages.

    Returns:
        The answer's body, with a result for each message; or what is asked for all of them.
    """
    try:
        items = json.loads(body)
        if not isinstance(items, list):
            raise TypeError("not a list")  # noqa: TRY301 - one answer for all that is wrong
        sequences = [int(item["walnatssequence"]) for item in items]
        payloads = [_payload(item) for item in items]
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        return Reject(f"the request is no batch of CloudEvents: {error!r}")
    delivery = Delivery(
        event=actor.event.name,
        actor=actor.name,
        uid="",
        sequence=max(sequences, default=0),
        attempt=max((int(item.get("walnatsattempt", 1)) for item in items), default=1),
        trace_id="",
        headers=headers,
    )
    messages: list[Any] = []
    results: list[Done | Reject | Retry] = []
    places = []
    for place, payload in enumerate(payloads):
        results.append(Done())
        try:
            messages.append(actor.event.decode(payload))
        except ValueError as error:
            results[place] = Reject(f"the payload is not of the event's schema: {error}")
        else:
            places.append(place)
    if messages:
        outcome = await handle_messages(actor, delivery, messages)
        if isinstance(outcome, (Reject, Retry)):
            if len(places) == len(results):
                return outcome
            outcome = [outcome] * len(places)
        for place, result in zip(places, outcome, strict=True):
            results[place] = result
    named = [_result(sequence, result) for sequence, result in zip(sequences, results, strict=True)]
    return json.dumps({"results": named}).encode()


def _payload(item: Mapping[str, Any]) -> bytes:
    if "data_base64" in item:
        return base64.b64decode(item["data_base64"], validate=True)
    return json.dumps(item["data"], separators=(",", ":")).encode()


def _result(sequence: int, result: Done | Reject | Retry) -> dict[str, object]:
    match result:
        case Done():
            return {"sequence": sequence, "status": "ack"}
        case Reject(reason=reason):
            return {"sequence": sequence, "status": "reject", "reason": reason}
        case Retry(reason=reason):
            return {"sequence": sequence, "status": "retry", "reason": reason}
