"""One attempt: POST the message, read the answer, say what it came to."""

import dataclasses
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
from walnatsd.webhook.answers import SAID_LENGTH, judge
from walnatsd.webhook.batch import read_results
from walnatsd.webhook.dialer import Origin
from walnatsd.webhook.errors import BrokenError, HttpError, NotConnectedError, NotHttpError
from walnatsd.webhook.heads import Heads
from walnatsd.webhook.http_client import HttpClient, parsed
from walnatsd.webhook.http_connection import Answer

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


class Webhook:
    """The webhook of one actor."""

    def __init__(self, client: HttpClient, actor: Actor, calling: Calling) -> None:
        self._client = client
        self._actor = actor
        self._calling = calling
        # below job_timeout, so that an actor that is not there is told from a slow one
        self._connect_s = min(CONNECT_TIMEOUT_S, actor.job_timeout * CONNECT_SHARE)
        self._problem = ""
        try:
            self._origin, self._heads = _prepared(actor, calling)
        except ValueError as error:  # the outcome of every attempt
            self._problem = str(error)

    def credit(self) -> int:
        """Any number of requests: the window bounds them."""
        return sys.maxsize

    async def attempt(self, message: Message, attempt: int) -> Outcome:
        """Call the actor once. Never raises but when cancelled: whatever happens is an outcome."""
        if self._problem:
            return self._unsendable(self._problem)
        head = self._heads.of(message, attempt)
        if not self._actor.responds or reply_subject(message.headers) is None:
            return (await self._post(head, message.payload, READ_LIMIT_BYTES))[0]
        outcome, answer = await self._post(head, message.payload, RESPONSE_LIMIT_BYTES)
        if answer is None or outcome.verdict is not Verdict.ACKNOWLEDGED:
            return outcome
        if not answer.complete:
            why = f"the response was cut short or has more than {RESPONSE_LIMIT_BYTES >> 20} MiB"
            return Outcome(Verdict.FAILED, why, answer.status)
        return dataclasses.replace(outcome, response=Response(answer.body, answer.content_type))

    async def attempt_batch(
        self, items: Sequence[tuple[Message, int]], trace: Mapping[str, str]
    ) -> Outcome | list[Outcome]:
        """Call the actor once with many messages; `trace` is the request's. Never raises but when cancelled."""
        if self._problem:
            return self._unsendable(self._problem)
        messages = [message for message, _ in items]
        identities = [message.identity for message in messages]
        body = batch(items, identities, source=self._calling.source)
        head = self._heads.of_batch(messages[0], identities, body, trace)
        outcome, answer = await self._post(head, body, RESULTS_LIMIT_BYTES)
        if answer is None or outcome.verdict is not Verdict.ACKNOWLEDGED:
            return outcome
        body = self._calling.hide(answer.body)
        return read_results(outcome, answer.content_type, body, messages, complete=answer.complete)

    async def _post(self, head: bytes, body: bytes, limit: int) -> tuple[Outcome, Answer | None]:
        """Make one request; the answer's body is read up to the limit."""
        calling = self._calling
        try:
            answer = await self._client.request(
                self._origin,
                None if calling.tls is None else calling.tls.context,
                head,
                body,
                connect_s=self._connect_s,
                timeout_s=self._actor.job_timeout,
                limit=limit,
            )
        except (HttpError, TimeoutError, ValueError) as error:
            return self._failure(error), None
        shown = _one_line(calling.hide(answer.body)) if answer.body else ""
        return judge(answer.status, answer.retry_after, shown, now=time.time()), answer

    def _failure(self, error: Exception) -> Outcome:
        """Say what it means that there is no answer."""
        match error:
            case NotConnectedError():
                return Outcome(Verdict.UNAVAILABLE, f"can't connect: {_words(error)}")
            case BrokenError():
                return Outcome(Verdict.UNAVAILABLE, f"the connection broke before an answer came: {_words(error)}")
            case NotHttpError():
                return Outcome(Verdict.UNAVAILABLE, f"the answer is not HTTP: {_words(error)}")
            case TimeoutError():
                late = f"no answer within job_timeout ({self._actor.job_timeout:g} s)"
                return Outcome(Verdict.FAILED, late, overloaded=True)
        return self._unsendable(_words(error))

    @staticmethod
    def _unsendable(why: str) -> Outcome:
        return Outcome(Verdict.UNAVAILABLE, f"the request can't be made: {why}")


def _prepared(actor: Actor, calling: Calling) -> tuple[Origin, Heads]:
    """Read the URL and write what is the same in all requests, once instead of for every attempt.

    Raises:
        ValueError: No request can be made, in words.
    """
    url = parsed(calling.url)
    heads = Heads(url, actor, source=calling.source, configured=calling.headers, signing_keys=calling.signing_keys)
    return url.origin, heads


def _one_line(body: bytes) -> str:
    """Give the beginning of an answer for people."""
    return re.sub(r"\s+", " ", body[:SHOWN_BYTES].decode("utf-8", "replace")).strip()


def _words(error: Exception) -> str:
    """Say what an error says, briefly: some repeat all that came."""
    return re.sub(r"\s+", " ", str(error)[:SHOWN_BYTES]).strip()[:SAID_LENGTH] or type(error).__name__
