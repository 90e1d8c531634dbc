"""The head of a delivery, section 5 of the contract. All names are lower case, so that none stands twice."""

import hashlib
from collections.abc import Mapping

from walnatsd.model.actor import Actor
from walnatsd.model.headers import deliverable
from walnatsd.model.message import Message
from walnatsd.payload import cloudevents
from walnatsd.webhook.http_client import USER_AGENT, HttpUrl

DEFAULTS = {"accept": "*/*", "user-agent": USER_AGENT}
"""Where neither message nor actor say something else."""


def delivery_headers(
    message: Message, actor: Actor, *, attempt: int, source: str, configured: Mapping[str, str]
) -> dict[str, str]:
    """Give the headers of one attempt.

    Args:
        message: What is delivered.
        actor: To whom.
        attempt: Which attempt it is, from 1.
        source: The service's name, where the emitter gave no `ce-source`.
        configured: The actor's own headers, secrets revealed; they win over the message's.
    """
    media_type = cloudevents.content_type(message.headers)
    # a payload in structured mode says it all itself, and attributes made up here would contradict it
    header = {} if cloudevents.is_structured(media_type) else cloudevents.required(message, source=source)
    for name, value in message.headers.items():
        if (lower := deliverable(name)) is not None:
            is_attribute = lower.startswith(cloudevents.PREFIX)
            header[lower] = cloudevents.encoded(value) if is_attribute else cloudevents.in_ascii(value)
    header.pop("ce-datacontenttype", None)  # Content-Type says it (HTTP binding, section 3.1.1)
    header["content-type"] = cloudevents.in_ascii(media_type)
    header |= {
        "webhook-id": webhook_id(message, actor.name),
        "walnats-event": message.event,
        "walnats-actor": actor.name,
        "walnats-sequence": str(message.sequence),
        "walnats-attempt": str(attempt),
    }
    if message.replay:
        header["walnats-replay"] = str(message.replay)
    if message.uid is not None:
        header["walnats-uid"] = cloudevents.in_ascii(message.uid)
    if message.trace_id is not None:
        header["walnats-trace"] = cloudevents.in_ascii(message.trace_id)
    return header | {name.lower(): value for name, value in configured.items()}


def webhook_id(message: Message, consumer: str) -> str:
    """Give the id that is the same on every attempt and different for each actor."""
    what = message.uid if message.uid is not None else str(message.sequence)
    digest = hashlib.sha256(f"{message.stream}\0{consumer}\0{what}".encode())
    return f"msg_{digest.hexdigest()[:32]}"


def request_head(method: str, url: HttpUrl, headers: Mapping[str, str], length: int | None = None) -> bytes:
    """Write the head of a request.

    Args:
        method: GET or POST.
        url: Where to.
        headers: With names in lower case.
        length: Of the body, in bytes; None: there is none.

    Raises:
        ValueError: A header would be read as more than one.
    """
    fields = [f"{method} {url.target} HTTP/1.1", f"host: {url.authority}"]
    fields += [f"{name}: {value}" for name, value in {**DEFAULTS, **headers}.items()]
    if length is not None:
        fields.append(f"content-length: {length}")
    head = "\r\n".join(fields) + "\r\n\r\n"
    breaks = len(fields) + 1
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head:
        raise ValueError(
            "a header holds a line break"
        )  # none should get here, whoever wrote it; see payload/ and config/
    return head.encode()
