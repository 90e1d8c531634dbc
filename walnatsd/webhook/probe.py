"""Asking `wait_for` whether an actor is there."""

from walnatsd.config.certificates import Certificates
from walnatsd.model.text import one_line
from walnatsd.webhook.errors import HttpError
from walnatsd.webhook.http_client import HttpClient, parsed
from walnatsd.webhook.request import request_head

PROBE_TIMEOUT_S = 5.0
READ_BYTES = 64 * 1024


async def why_not(client: HttpClient, url: str, tls: Certificates | None) -> str | None:
    """GET the URL; None where it answers 2xx within 5 seconds, else why the actor is not there, in words.

    Args:
        client: The connections of all webhooks.
        url: What to ask.
        tls: The actor's certificates; None: the system's.
    """
    try:
        place = parsed(url)
        answer = await client.request(
            place.origin,
            None if tls is None else tls.context,
            request_head("GET", place, {"connection": "close"}),
            b"",
            connect_s=PROBE_TIMEOUT_S,
            timeout_s=PROBE_TIMEOUT_S,
            limit=READ_BYTES,
            fresh=True,
        )
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT_S:g} s"
    except (HttpError, ValueError) as error:
        return one_line(str(error)) or type(error).__name__
    return None if 200 <= answer.status < 300 else f"it answered {answer.status}"
