"""One attempt: POST the message, read the answer, say what it came to. The sole importer of aiohttp's client."""

import dataclasses
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from walnatsd.config.certificates import Certificates
from walnatsd.config.secrets import Secrets
from walnatsd.config.tls import client_files
from walnatsd.model.actor import Actor
from walnatsd.model.declared import Secret
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Response, Verdict
from walnatsd.model.reply import reply_subject
from walnatsd.model.signing import signing_key
from walnatsd.payload.structured import batch
from walnatsd.webhook.answers import judge
from walnatsd.webhook.batch import batch_headers, read_results
from walnatsd.webhook.request import delivery_headers
from walnatsd.webhook.signature import signature_headers

CONNECT_TIMEOUT_S = 10.0
CONNECT_SHARE = 0.9
READ_LIMIT_BYTES = 64 * 1024
"""An answer is read up to here so that its connection can be used again; of a longer one the connection is closed."""
RESULTS_LIMIT_BYTES = 1 << 20
"""The same where the answer holds a result for each of up to 1,000 messages."""
RESPONSE_LIMIT_BYTES = 8 << 20
"""The same where somebody waits for the body; NATS' max_payload is usually far below."""
LEAST_HIDDEN = 6
"""A secret of fewer characters is none, and to hide it would garble what people are told."""
SHOWN_BYTES = 1024
"""So much of an answer is kept for the history of a message."""


@dataclass(frozen=True, slots=True)
class Calling:
    """How the webhook of an actor is called, secrets revealed."""

    url: str
    source: str
    """The service's name, where the emitter gave no `ce-source`."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The actor's own; these win over the message's."""
    signing_keys: tuple[bytes, ...] = field(default=(), repr=False)
    """Newest first."""
    tls: Certificates | None = None
    """None: the system's certificates."""
    hidden: re.Pattern[bytes] | None = field(default=None, repr=False)
    """The secrets among the headers: error pages like to repeat what was sent."""

    def hide(self, body: bytes) -> bytes:
        """Give an answer's body without the secrets that were sent, for what people are told of it."""
        return body if self.hidden is None else self.hidden.sub(b"***", body)


def calling(actor: Actor, secrets: Secrets, *, source: str) -> Calling:
    """Say how an actor's webhook is called.

    Raises:
        ValueError: Its certificates or signing secrets can't be used. They could when the config was loaded.
    """
    assert actor.url is not None
    tls = actor.tls
    revealed = {name: secrets.reveal(value) for name, value in actor.headers.items() if isinstance(value, Secret)}
    return Calling(
        url=actor.url,
        source=source,
        headers={name: value for name, value in actor.headers.items() if isinstance(value, str)} | revealed,
        hidden=_pattern(revealed.values()),
        signing_keys=tuple(signing_key(secrets.reveal(secret)) for secret in actor.signing_secrets),
        tls=None if tls is None else Certificates(f"{actor.event}/{actor.name}", client_files(tls)),
    )


def _pattern(secrets: Iterable[str]) -> re.Pattern[bytes] | None:
    """Find any of these secrets, and what is secret in those that begin with a scheme, like `Bearer`."""
    parts = (part for value in secrets for part in (value, value.rpartition(" ")[2]))
    secret = {part.encode() for part in parts if len(part) >= LEAST_HIDDEN}
    return re.compile(b"|".join(map(re.escape, sorted(secret, key=len, reverse=True)))) if secret else None


@dataclass(frozen=True, slots=True)
class _Answer:
    outcome: Outcome
    content_type: str = ""
    body: bytes = b""
    complete: bool = False


class Webhook:
    """The webhook of one actor."""

    def __init__(self, session: aiohttp.ClientSession, actor: Actor, calling: Calling) -> None:
        self._session = session
        self._actor = actor
        self._calling = calling
        self._url = _parsed(calling.url)
        self._timeout = aiohttp.ClientTimeout(
            total=actor.job_timeout,
            # resolving, connecting, TLS; below the total, so that an actor that is not there is told from a slow one
            connect=min(CONNECT_TIMEOUT_S, actor.job_timeout * CONNECT_SHARE),
        )

    def credit(self) -> int:
        """Any number of requests: the window bounds them."""
        return sys.maxsize

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        """Call the actor once. Never raises but when cancelled: whatever happens is an outcome."""
        headers = delivery_headers(
            message, self._actor, attempt=attempt, source=self._calling.source, configured=self._calling.headers
        )
        if not self._actor.responds or reply_subject(message.headers) is None:
            return (await self._post(headers, message.payload, READ_LIMIT_BYTES)).outcome
        answer = await self._post(headers, message.payload, RESPONSE_LIMIT_BYTES)
        if answer.outcome.verdict is not Verdict.ACKNOWLEDGED:
            return answer.outcome
        if not answer.complete:
            why = f"the response was cut short or has more than {RESPONSE_LIMIT_BYTES >> 20} MiB"
            return Outcome(Verdict.FAILED, why, answer.outcome.status)
        return dataclasses.replace(answer.outcome, response=Response(answer.body, answer.content_type))

    async def attempt_batch(
        self, items: Sequence[tuple[Message, int]], trace: Mapping[str, str]
    ) -> Outcome | list[Outcome]:
        """Call the actor once with many messages; `trace` is the request's. Never raises but when cancelled."""
        messages = [message for message, _ in items]
        headers = {**trace} | batch_headers(messages, actor=self._actor.name, configured=self._calling.headers)
        body = batch(items, source=self._calling.source)
        answer = await self._post(headers, body, RESULTS_LIMIT_BYTES)
        if answer.outcome.verdict is not Verdict.ACKNOWLEDGED:
            return answer.outcome
        body = self._calling.hide(answer.body)
        return read_results(answer.outcome, answer.content_type, body, messages, complete=answer.complete)

    async def _post(self, headers: dict[str, str], payload: bytes, limit: int) -> _Answer:
        """Make one request; the answer's body is read up to the limit."""
        calling, now = self._calling, time.time()
        if calling.signing_keys:
            headers |= signature_headers(calling.signing_keys, headers["webhook-id"], payload, now=now)
        try:
            async with self._session.post(
                self._url,
                data=payload,
                headers=headers,
                timeout=self._timeout,
                ssl=True if calling.tls is None else calling.tls.context,
                allow_redirects=False,
            ) as response:
                body, complete = await _read(response, limit)
                shown = _one_line(calling.hide(body))
                outcome = judge(response.status, response.headers.get("Retry-After"), shown, now=time.time())
                return _Answer(outcome, response.headers.get("Content-Type", ""), body, complete)
        except Exception as error:  # noqa: BLE001 - whatever happens is an outcome
            return _Answer(self._failure(error))

    def _failure(self, error: Exception) -> Outcome:
        """Say what it means that there is no answer."""
        match error:
            case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
                return Outcome(Verdict.UNAVAILABLE, f"can't connect: {_words(error)}")
            case aiohttp.InvalidURL():
                return Outcome(Verdict.UNAVAILABLE, f"the URL can't be called: {_words(error)}")
            case TimeoutError():
                late = f"no answer within job_timeout ({self._actor.job_timeout:g} s)"
                return Outcome(Verdict.FAILED, late, overloaded=True)
            case aiohttp.ClientConnectionError() | ConnectionError():
                return Outcome(Verdict.UNAVAILABLE, f"the connection broke before an answer came: {_words(error)}")
            case aiohttp.ClientError() | ValueError():
                return Outcome(Verdict.UNAVAILABLE, f"the answer is not HTTP: {_words(error)}")
        raise error


async def _read(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Read the answer's body up to the limit, and say whether that is all. A body cut short takes nothing back."""
    chunks, read = [], 0
    try:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            read += len(chunk)
            if read > limit:
                response.close()
                return b"".join(chunks)[:limit], False
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, TimeoutError):
        response.close()
        return b"".join(chunks), False
    return b"".join(chunks), True


def _parsed(url: str) -> URL | str:
    """Parse a URL once instead of for every attempt. What can't be parsed is the outcome of the attempt."""
    try:
        return URL(url)
    except ValueError:
        return url


def _one_line(body: bytes) -> str:
    """Give the beginning of an answer for people."""
    return re.sub(r"\s+", " ", body[:SHOWN_BYTES].decode("utf-8", "replace")).strip()


def _words(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
