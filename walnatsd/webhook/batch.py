"""Many messages in one request, and what the answer says of each."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.payload.event_json import BATCH_TYPE

_VERDICTS = {"ack": Verdict.ACKNOWLEDGED, "retry": Verdict.FAILED, "reject": Verdict.REJECTED}


def batch_headers(
    first: Message, identities: Sequence[str], *, actor: str, configured: Mapping[str, str]
) -> dict[str, str]:
    """Give the headers of a request that carries these messages: the first of them, and what identifies each."""
    what = [first.stream, actor, *identities]
    return {
        "content-type": BATCH_TYPE,
        "webhook-id": f"msg_{hashlib.sha256(chr(0).join(what).encode()).hexdigest()[:32]}",
        "walnats-event": first.event,
        "walnats-actor": actor,
    } | {name.lower(): value for name, value in configured.items()}


def read_results(
    outcome: Outcome, content_type: str, body: bytes, messages: Sequence[Message], *, complete: bool
) -> Outcome | list[Outcome]:
    """Read what a 2xx says of each message; one outcome where it speaks of the batch as a whole.

    A message that is not named is retried. What is no JSON at all, like `OK`, is no list of results but a plain success,
    even where it is cut short. Of results that are cut short nobody knows what they were: all messages are retried.
    """
    is_json = "json" in content_type.lower()
    if not complete and (is_json or body.lstrip().startswith(b"{")):
        why = "the results were cut short, or more than is read"
        return Outcome(Verdict.FAILED, why, outcome.status, answer=outcome.answer)
    if not body.strip():
        return outcome
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
        if not is_json:
            return outcome
    match answer:
        case {"results": list(results)}:
            named = {str(result.get("sequence")): result for result in results if isinstance(result, dict)}
            known = {str(message.sequence) for message in messages}
            unknown = sorted(named.keys() - known)
            return [_item(named.get(str(message.sequence)), outcome, unknown) for message in messages]
        case _:
            why = 'the answer is JSON, but not {"results": [{"sequence": …, "status": "ack"|"retry"|"reject"}]}'
            return Outcome(Verdict.FAILED, why, outcome.status, answer=outcome.answer)


def _item(result: Mapping[str, Any] | None, outcome: Outcome, unknown: Sequence[str]) -> Outcome:
    if result is None:
        why = "the answer does not name this message"
        if unknown:
            why += f", but sequences that were not sent: {', '.join(unknown[:5])}"
        return Outcome(Verdict.FAILED, why, outcome.status, answer=outcome.answer)
    status = result.get("status")
    verdict = _VERDICTS.get(status) if isinstance(status, str) else None
    if verdict is None:
        why = f"the answer's status for this message is {str(status)[:50]!r}, not ack, retry or reject"
        return Outcome(Verdict.FAILED, why, outcome.status, answer=outcome.answer)
    reason = result.get("reason")
    said = f"{status}: {reason}" if isinstance(reason, str) and reason else f"the actor answered {status}"
    return Outcome(verdict, said[:1024], outcome.status, answer=reason if isinstance(reason, str) else "")
