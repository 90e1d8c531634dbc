"""One attempt: POST the message, read the answer, say what it came to. The sole importer of aiohttp's client."""

import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Mapping

import aiohttp

from walnatsd import __version__
from walnatsd.model.actor import Actor
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Verdict
from walnatsd.webhook.answers import judge
from walnatsd.webhook.request import delivery_headers

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 4.5
"""Below the 5 s after which common servers (uvicorn, Node) close an idle connection: closing first avoids the race."""
READ_LIMIT_BYTES = 64 * 1024
"""An answer is read up to here so that its connection can be used again; of a longer one the connection is closed."""
SHOWN_BYTES = 200


@contextlib.asynccontextmanager
async def webhook_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the connection pool of all webhooks. Slots bound its use, so the pool itself has no limit."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ttl_dns_cache=10)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding",),  # the answer's beginning is shown to people as it comes
        headers={"user-agent": f"walnatsd/{__version__}"},
    ) as session:
        yield session


class Webhook:
    """The webhook of one actor."""

    def __init__(
        self, session: aiohttp.ClientSession, actor: Actor, url: str, *, source: str, configured: Mapping[str, str]
    ) -> None:
        self._session = session
        self._actor = actor
        self._url = url
        self._source = source
        self._configured = configured
        self._timeout = aiohttp.ClientTimeout(total=actor.job_timeout, sock_connect=CONNECT_TIMEOUT_S)

    def credit(self) -> int:
        """Any number of requests: the window bounds them."""
        return sys.maxsize

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        """Call the actor once. Never raises but when cancelled: whatever happens is an outcome."""
        headers = delivery_headers(
            message, self._actor, attempt=attempt, source=self._source, configured=self._configured
        )
        try:
            async with self._session.post(
                self._url, data=message.payload, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = await _beginning(response)
                return judge(response.status, response.headers.get("Retry-After"), body, now=time.time())
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            return Outcome(Verdict.UNAVAILABLE, f"can't connect: {_words(error)}")
        except TimeoutError:
            late = f"no answer within job_timeout ({self._actor.job_timeout:g} s)"
            return Outcome(Verdict.FAILED, late, overloaded=True)
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            return Outcome(Verdict.UNAVAILABLE, f"the connection broke before an answer came: {_words(error)}")
        except (aiohttp.ClientError, ValueError) as error:
            return Outcome(Verdict.FAILED, f"the answer is not HTTP: {_words(error)}")


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """Read the answer up to the limit; return its beginning on one line. A body cut short takes nothing back."""
    beginning = b""
    read = 0
    try:
        async for chunk in response.content.iter_any():
            beginning += chunk[: SHOWN_BYTES - len(beginning)]
            read += len(chunk)
            if read > READ_LIMIT_BYTES:
                response.close()
                break
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, TimeoutError):
        response.close()
    return re.sub(r"\s+", " ", beginning.decode("utf-8", "replace")).strip()


def _words(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
