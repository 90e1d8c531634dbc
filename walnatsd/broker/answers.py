"""Answers to requests: core NATS messages to who waits for one (`Walnats-Reply`)."""

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import NotConnectedError
from walnatsd.broker.wire import head_of
from walnatsd.model import headers
from walnatsd.model.outcome import Response
from walnatsd.model.text import one_line


def send_response(connection: Connection, subject: str, response: Response, *, actor: str) -> str:
    """Answer a request. Nothing stores answers: who waits no longer misses it.

    Returns:
        What came of it: `sent`, `too-large` or `not-connected`.
    """
    head = head_of({headers.CONTENT_TYPE: one_line(response.content_type), "walnats-actor": actor})
    if len(head) + len(response.payload) > connection.max_payload:
        words = f"the answer has {len(response.payload)} bytes, the NATS server takes {connection.max_payload}"
        send_error(connection, subject, "TOO_LARGE", words, actor=actor)
        return "too-large"
    return _send(connection, subject, response.payload, head)


def send_error(connection: Connection, subject: str, reason: str, words: str, *, actor: str) -> str:
    """Tell who waits that there will be no answer. Returns as `send_response`."""
    head = head_of({headers.ERROR: reason, headers.ERROR_MESSAGE: one_line(words), "walnats-actor": actor})
    return _send(connection, subject, b"", head)


def _send(connection: Connection, subject: str, payload: bytes, head: bytes) -> str:
    try:
        connection.publish(subject, payload, head=head)
    except NotConnectedError:
        return "not-connected"
    return "sent"
