"""Asking `wait_for` whether an actor is there."""

import aiohttp

from walnatsd.config.certificates import Certificates
from walnatsd.model.text import one_line

PROBE_TIMEOUT_S = 5.0


async def why_not(session: aiohttp.ClientSession, url: str, tls: Certificates | None) -> str | None:
    """GET the URL; None where it answers 2xx within 5 seconds, else why the actor is not there, in words.

    Args:
        session: The connections of all webhooks.
        url: What to ask.
        tls: The actor's certificates; None: the system's.
    """
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with session.get(
            url, timeout=timeout, ssl=True if tls is None else tls.context, allow_redirects=False
        ) as response:
            return None if 200 <= response.status < 300 else f"it answered {response.status}"
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT_S:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return one_line(str(error)) or type(error).__name__
