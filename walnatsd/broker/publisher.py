"""Storing messages: publish, await the PubAck, retry with the same uid inside a budget."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError, NoReplyError, NoRespondersError, NotConnectedError
from walnatsd.broker.wire import Frame, head_of
from walnatsd.model import headers
from walnatsd.model.refusal import Reason, Refusal

ACK_TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0

_WRONG_SEQUENCE = frozenset({10070, 10071})
_FULL = frozenset({10077})  # store failed: maximum messages or bytes exceeded
_TOO_LARGE = frozenset({10054})
_HEADERS_TOO_LARGE = frozenset({10097})
_NO_RESOURCES = frozenset({10002, 10023})  # max_file or max_mem of the account, or of the server, is reached
_IN_PROCESS = frozenset({10158, 10164})
"""On a replicated stream the same id, or a message that may change the expected sequence, is being stored right now: what
becomes of it decides, so it is tried again."""


@dataclass(slots=True)  # not frozen: as cheap as can be, and so is what else is made for each emit
class PubAck:
    """JetStream's word that a message is stored. Not to be changed."""

    stream: str
    sequence: int
    duplicate: bool
    retried: bool = False
    """An earlier try may have been what stored it: then a duplicate may be one of itself."""


@dataclass(frozen=True, slots=True)
class Room:
    """How large a stream can get.

    Where it drops its oldest messages, the server acknowledges a message that is larger than all of it, and drops
    everything up to that very message (nats-server 2.10 to 2.15, tried). So it must not be sent.
    """

    stream_bytes: int
    """What the stream may hold."""
    in_memory: bool

    @property
    def overhead_bytes(self) -> int:
        """What the server adds to subject, headers and payload: 22 + 4 + 8 in a file, 16 in memory."""
        return 16 if self.in_memory else 34

    def check(self, subject: str, size: int, uid: str) -> None:
        """See that a message of this size fits, headers included.

        Raises:
            Refusal: TOO_LARGE.
        """
        if (needs := size + len(subject) + self.overhead_bytes) > self.stream_bytes:
            raise Refusal(
                Reason.TOO_LARGE,
                f"headers and payload take {needs} bytes in the stream, which may hold {self.stream_bytes} (limits.bytes)",
                uid=uid,
            )


@dataclass(slots=True)
class Begun:
    """A message whose first try is under way."""

    reply: asyncio.Future[Frame]
    deadline: float
    """When to give up, by the loop's clock."""

    async def answered(self) -> None:
        """Wait until there is an answer, or it is clear that there will be none."""
        if not self.reply.done():
            try:
                await self.reply
            except BrokerError:
                return  # and `ack` says so

    def ack(self) -> PubAck | None:
        """Read the answer, which must be there.

        Returns:
            None where it is no word that the message is stored, so that there is more for `publish` to do.
        """
        try:
            word = _word_in(self.reply.result())
        except BrokerError:
            return None
        return word if isinstance(word, PubAck) else None


Admission = Callable[[bool], Awaitable[None]]
"""Awaited before each try to store something, with whether it is another one; raises Refusal where it must not be made, and
BrokerError where nobody can tell now."""


class Publisher:
    """Publishes to streams. Every message carries a `Nats-Msg-Id`, so that a retry can't store it twice."""

    def __init__(
        self,
        connection: Connection,
        *,
        on_no_stream: Callable[[], None] = lambda: None,
        waits_for_nats: bool = True,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Prepare publishing.

        Args:
            connection: To NATS.
            on_no_stream: Called when no stream takes a message.
            waits_for_nats: Whether a message waits for its budget while NATS is away; otherwise it is refused at once.
            draw: Gives chance, from 0 to 1, which spreads what is tried again.
        """
        self._connection = connection
        self._on_no_stream = on_no_stream
        self._waits_for_nats = waits_for_nats
        self._draw = draw

    def begin(
        self, subject: str, header: Mapping[str, str], payload: bytes, *, budget_s: float, room: Room | None = None
    ) -> Begun | None:
        """Send a message without waiting.

        Returns:
            What `publish` goes on with where the answer is no ack; None where nothing was sent, because NATS is away or there
            is little time.

        Raises:
            Refusal: TOO_LARGE; nothing was sent.
        """
        if budget_s < ACK_TIMEOUT_S:
            return None
        head = _head_of(header)
        self._see_that_it_fits(subject, len(head) + len(payload), header, room)
        try:
            reply = self._connection.ask(subject, payload, head=head, timeout_s=ACK_TIMEOUT_S, in_group=True)
        except NotConnectedError:
            return None
        return Begun(reply, self._connection.now() + budget_s)

    def begin_all(
        self,
        subject: str,
        messages: Sequence[tuple[Mapping[str, str], bytes]],
        *,
        budget_s: float,
        room: Room | None = None,
    ) -> list[Begun | Refusal | None]:
        """Send messages as `begin` sends one, in one write.

        Args:
            subject: Where.
            messages: Headers, with the uid, and body of each.
            budget_s: Seconds that each may take.
            room: How large the stream can get, where that is known.

        Returns:
            For each message what `publish` goes on with where the answer is no ack, or a refusal (TOO_LARGE); None where
            nothing was sent, because NATS is away or there is little time.
        """
        if budget_s < ACK_TIMEOUT_S:
            return [None] * len(messages)
        fitting = []
        refused: dict[int, Refusal] = {}
        limit = self._connection.max_payload
        for place, (header, payload) in enumerate(messages):
            head = _head_of(header)
            size = len(head) + len(payload)
            if size > limit or room is not None:
                try:
                    self._see_that_it_fits(subject, size, header, room)
                except Refusal as refusal:
                    refused[place] = refusal
                    continue
            fitting.append((head, payload))
        try:
            replies = self._connection.ask_all(subject, fitting, timeout_s=ACK_TIMEOUT_S)
        except NotConnectedError:
            return [None] * len(messages)
        deadline = self._connection.now() + budget_s
        begun: list[Begun | Refusal | None] = [Begun(reply, deadline) for reply in replies]
        for place, why in refused.items():  # in rising order, so each gets to its place
            begun.insert(place, why)
        return begun

    async def publish(
        self,
        subject: str,
        payload: bytes,
        header: Mapping[str, str],
        *,
        budget_s: float,
        find_gate: Callable[[], asyncio.Event | None] = lambda: None,
        admit: Admission | None = None,
        room: Room | None = None,
        begun: Begun | None = None,
    ) -> PubAck:
        """Store a message.

        Args:
            subject: Where.
            payload: The body.
            header: The headers, with the uid.
            budget_s: Seconds that it may take.
            find_gate: Gives what has to be waited for before anything is sent; None where nothing has to.
            admit: Whether each try may be made; None where all may.
            room: How large the stream can get, where that is known.
            begun: What `begin` gave for this message, of which every try may be made.

        Raises:
            Refusal: It was not stored, or nobody knows (`maybe_stored`).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + budget_s if begun is None else begun.deadline
        uid = header[headers.MESSAGE_ID]
        pause_s = FIRST_PAUSE_S
        maybe_stored = again = False
        why = "there was no time to try"
        while True:
            left_s = deadline - loop.time()
            if left_s <= 0 and begun is None:
                raise _unconfirmed(f"within {budget_s:g} s: {why}", uid, maybe_stored=maybe_stored)
            if (gate := None if begun is not None else find_gate()) is not None:
                why = "the event and its actors are not registered in NATS yet"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await gate.wait()
                continue
            try:
                if admit is not None and begun is None:  # what is under way needs no leave any more
                    await _ask(admit, again=again, timeout_s=left_s)
                again, first, begun = True, begun, None
                ack = await self._attempt(first, subject, payload, header, min(left_s, ACK_TIMEOUT_S), room)
            except NotConnectedError as error:
                why = str(error)
                await self._wait_connected(left_s, _unconfirmed(f"at once: {why}", uid, maybe_stored=maybe_stored))
                continue
            except NoRespondersError:
                self._on_no_stream()
                why = f"no stream takes messages for {subject!r}: JetStream is not available, or the stream was deleted"
            except (NoReplyError, _RetryableError) as error:
                why = str(error)
                maybe_stored |= isinstance(error, NoReplyError)
            except Refusal as refusal:
                refusal.maybe_stored |= maybe_stored  # an earlier try may have been what stored it
                raise
            else:
                return replace(ack, retried=True) if maybe_stored else ack
            await self._pause(min(pause_s * (0.5 + self._draw()), max(0.0, deadline - loop.time())))
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _pause(self, pause_s: float) -> None:
        if self._waits_for_nats or self._connection.is_connected:
            await asyncio.sleep(pause_s)

    async def _wait_connected(self, timeout_s: float, otherwise: Refusal) -> None:
        if not self._waits_for_nats:
            raise otherwise
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection.wait_connected(), timeout_s)

    async def _attempt(
        self,
        begun: Begun | None,
        subject: str,
        payload: bytes,
        header: Mapping[str, str],
        timeout_s: float,
        room: Room | None,
    ) -> PubAck:
        uid = header[headers.MESSAGE_ID]
        if begun is not None:
            return _read(await begun.reply, uid)
        head = _head_of(header)
        self._see_that_it_fits(subject, len(head) + len(payload), header, room)
        request = self._connection.request(subject, payload, head=head, timeout_s=timeout_s)
        if timeout_s < ACK_TIMEOUT_S:  # the caller's deadline is near: on the dot, not when late replies are swept
            try:
                async with asyncio.timeout(timeout_s):
                    frame = await request
            except TimeoutError:
                raise NoReplyError(self._connection.why_silent(subject)) from None
        else:
            frame = await request
        return _read(frame, uid)

    def _see_that_it_fits(self, subject: str, size: int, header: Mapping[str, str], room: Room | None) -> None:
        if size > self._connection.max_payload and self._connection.is_connected:
            # the server would close the connection: the library checks the payload alone
            raise Refusal(
                Reason.TOO_LARGE,
                f"headers and payload have {size} bytes, the NATS server takes {self._connection.max_payload} (max_payload)",
                uid=header[headers.MESSAGE_ID],
            )
        if room is not None:
            room.check(subject, size, header[headers.MESSAGE_ID])


def _head_of(header: Mapping[str, str]) -> bytes:
    if len(header) == 1:
        return head_of(header)
    # nats-server 2.10 looks for the name anywhere in the block, and gives up where it finds it inside something else
    if next(iter(header)) == headers.MESSAGE_ID:
        return head_of(header)
    return head_of({headers.MESSAGE_ID: header[headers.MESSAGE_ID]} | dict(header))


def _word_in(frame: Frame) -> PubAck | dict[str, Any]:
    """Read JetStream's word: that the message is stored, or the error.

    Raises:
        NoReplyError: It was not JetStream. Whoever subscribes to a subject can answer what comes there.
    """
    try:
        answer = orjson.loads(frame.payload)
        error = answer.get("error")
        if not error:
            stream, sequence = answer["stream"], answer["seq"]
            if isinstance(stream, str) and isinstance(sequence, int):
                return PubAck(stream, sequence, answer.get("duplicate") is True)
        elif isinstance(error, dict):
            return error
    except (ValueError, AttributeError, KeyError):
        pass
    raise NoReplyError("somebody else answered in place of JetStream, who subscribes to the subject as well")


def _read(frame: Frame, uid: str) -> PubAck:
    word = _word_in(frame)
    if isinstance(word, PubAck):
        return word
    raise _translate(word, uid)


def _unconfirmed(why: str, uid: str, *, maybe_stored: bool) -> Refusal:
    return Refusal(
        Reason.NATS_UNAVAILABLE,
        f"not confirmed by NATS {why}",
        uid=uid,
        maybe_stored=maybe_stored,
        retry_after_s=LONGEST_PAUSE_S,
    )


async def _ask(admit: Callable[[bool], Awaitable[None]], *, again: bool, timeout_s: float) -> None:
    """See whether a try may be made; not to know is a reason to wait, but nothing was sent.

    Raises:
        Refusal: It may not.
        NotConnectedError: NATS is away.
        _RetryableError: NATS does not tell.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await admit(again)
    except NotConnectedError:
        raise
    except (BrokerError, TimeoutError) as error:
        raise _RetryableError(f"nobody can tell whether the event has enough actors: {error}") from None


class _RetryableError(Exception):
    """JetStream could not store it now, and said so."""


def _translate(error: Mapping[str, object], uid: str) -> Exception:
    code, err_code, text = error.get("code"), error.get("err_code"), str(error.get("description"))
    if err_code in _WRONG_SEQUENCE:
        return Refusal(Reason.SEQUENCE, f"the stream's last message is another one than expected: {text}", uid=uid)
    if err_code in _FULL:
        what = f"the event's stream is full ({text}) and refuses what is new (limits.when_full: refuse)"
        return Refusal(Reason.EVENT_FULL, f"{what}; emit again when its actors have made room", uid=uid)
    if err_code in _TOO_LARGE:
        return Refusal(Reason.TOO_LARGE, f"larger than the event's limits.message_size: {text}", uid=uid)
    if err_code in _HEADERS_TOO_LARGE:
        return Refusal(Reason.TOO_LARGE, f"the headers are larger than JetStream takes: {text}", uid=uid)
    if err_code in _NO_RESOURCES:
        return _RetryableError(f"the NATS server, or the account, has no storage left for JetStream ({text})")
    if err_code in _IN_PROCESS or code == 503:
        return _RetryableError(f"{text} (JetStream error {err_code})")
    return Refusal(Reason.NATS_ERROR, f"{text} (JetStream error {err_code})", uid=uid)
