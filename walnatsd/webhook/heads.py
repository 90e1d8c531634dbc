"""The heads of an actor's requests. Most of one is the same for all of them, and is written once."""

from collections.abc import Mapping, Sequence
from time import time

from walnatsd.model.actor import Actor
from walnatsd.model.headers import deliverable
from walnatsd.model.message import Message
from walnatsd.payload import cloudevents
from walnatsd.webhook.batch import batch_headers
from walnatsd.webhook.http_client import HttpUrl
from walnatsd.webhook.request import DEFAULTS, delivery_headers, request_head, webhook_id
from walnatsd.webhook.signature import signature_headers

_ATTRIBUTES = frozenset({"ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time"})
"""What every event has, of the emitter's or of our making."""
_TYPES = frozenset({"content-type", "ce-datacontenttype"})
"""What says the media type."""


class Heads:
    """Writes heads.

    What they say is said by `delivery_headers`, and most of them come out of a form that is filled in, at a third of the cost. Only
    where the message or the actor sets what stands in the form already, the head is put together name by name.
    """

    def __init__(
        self, url: HttpUrl, actor: Actor, *, source: str, configured: Mapping[str, str], signing_keys: Sequence[bytes]
    ) -> None:
        """Write what is the same for all messages.

        Args:
            url: Where requests go.
            actor: To whom.
            source: The service's name, where the emitter gave no `ce-source`.
            configured: The actor's own headers, secrets revealed; they win over the message's.
            signing_keys: The live keys, newest first.

        Raises:
            ValueError: A configured header can't be sent.
        """
        self._url = url
        self._actor = actor
        self._source = source
        self._configured = {name.lower(): value for name, value in configured.items()}
        self._signing_keys = signing_keys
        fixed = {**DEFAULTS, "walnats-event": actor.event, "walnats-actor": actor.name, **self._configured}
        self._form = request_head("POST", url, fixed).decode()[:-2]
        self._attributes = (
            f"ce-source: {cloudevents.source_of(source)}\r\nce-type: {actor.event}\r\nce-specversion: 1.0\r\n"
        )
        self._has_form = (_ATTRIBUTES | _TYPES).isdisjoint(self._configured)
        self._taken = frozenset(fixed)

    def of(self, message: Message, attempt: int) -> bytes:
        """Write the head of one attempt, from 1, at one message."""
        media_type = cloudevents.content_type(message.headers)
        own = self._own(message)
        if own is None or message.event != self._actor.event or cloudevents.is_structured(media_type):
            return self._put_together(message, attempt)
        id_ = webhook_id(message, self._actor.name)
        if _ATTRIBUTES.isdisjoint(own):
            attributes = (
                f"{self._attributes}ce-id: {cloudevents.id_of(message)}\r\n"
                f"ce-time: {cloudevents.rfc3339(message.stored_at)}\r\n"
            )
        else:
            attributes, own = "", cloudevents.required(message, source=self._source) | own
        text = (
            f"{self._form}{attributes}content-type: {cloudevents.in_ascii(media_type)}\r\n"
            f"webhook-id: {id_}\r\nwalnats-sequence: {message.sequence}\r\nwalnats-attempt: {attempt}\r\n"
        )
        if message.replay:
            own["walnats-replay"] = str(message.replay)
        if (uid := message.uid) is not None:
            own["walnats-uid"] = cloudevents.in_ascii(uid)
        if (trace_id := message.trace_id) is not None:
            own["walnats-trace"] = cloudevents.in_ascii(trace_id)
        if self._signing_keys:
            own |= signature_headers(self._signing_keys, id_, message.payload, now=time())
        if own:
            text += "".join([f"{name}: {value}\r\n" for name, value in own.items()])
        return f"{text}content-length: {len(message.payload)}\r\n\r\n".encode()

    def of_batch(self, first: Message, identities: Sequence[str], body: bytes, trace: Mapping[str, str]) -> bytes:
        """Write the head of a request with many messages in its body; `trace` is the request's own."""
        header = {name: cloudevents.in_ascii(value) for name, value in trace.items()}
        header |= batch_headers(first, identities, actor=self._actor.name, configured=self._configured)
        return self._signed(header, body)

    def _own(self, message: Message) -> dict[str, str] | None:
        """Give the message's own headers; None where they don't go with the form."""
        if not self._has_form:
            return None
        own = {}
        for name, value in message.headers.items():
            lower = deliverable(name)
            if lower is None or lower in _TYPES:
                continue
            if lower in self._taken:
                return None
            is_attribute = lower.startswith(cloudevents.PREFIX)
            own[lower] = cloudevents.encoded(value) if is_attribute else cloudevents.in_ascii(value)
        return own

    def _put_together(self, message: Message, attempt: int) -> bytes:
        header = delivery_headers(
            message, self._actor, attempt=attempt, source=self._source, configured=self._configured
        )
        return self._signed(header, message.payload)

    def _signed(self, header: dict[str, str], body: bytes) -> bytes:
        if self._signing_keys:
            header |= signature_headers(self._signing_keys, header["webhook-id"], body, now=time())
        return request_head("POST", self._url, header, len(body))
