"""One who watches: a bounded queue between the connection to NATS, which must not wait, and a reader that may be slow."""

import asyncio
from collections import deque

from walnatsd.broker.wire import Frame
from walnatsd.model.message import Message
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.payload.codecs import CodecError, Codecs

MAX_MESSAGES = 10_000
MAX_BYTES = 8 << 20
"""What may wait for a watcher. Who lets more come is dropped."""
KEPT_GROWTH = 2
"""What grows more than so many times when it is decoded is decoded for each watcher, for what waits is counted as it came."""


class Seen:
    """A message on its way to its stream. Decoded when a watcher looks, for all of them where that did not make it large."""

    def __init__(self, frame: Frame, *, event: str, stream: str, codecs: Codecs, at: float) -> None:
        """Take a message as it was published.

        Args:
            frame: As it came.
            event: Name of the event.
            stream: Where it goes.
            codecs: Those of the event.
            at: When it came, in seconds since the epoch.
        """
        self.size = len(frame.payload) + len(frame.head)
        self._frame = frame
        self._event = event
        self._stream = stream
        self._codecs = codecs
        self._at = at
        self._message: Message | None = None
        self._codec_error: str | None = None

    @property
    def message(self) -> Message:
        """What was published, codecs undone where they can be. The stream has yet to give it a place: its sequence is 0."""
        if self._message is not None:
            return self._message
        message = Message(
            event=self._event,
            payload=self._decode(),
            headers=self._frame.headers(),
            stream=self._stream,
            sequence=0,
            stored_at=self._at,
        )
        if len(message.payload) <= KEPT_GROWTH * self.size:
            self._message = message
        return message

    @property
    def codec_error(self) -> str:
        """Why the payload is shown as it is stored; empty where the codecs could be undone."""
        if self._codec_error is None:
            self._decode()
        return self._codec_error or ""

    def _decode(self) -> bytes:
        try:
            payload = self._codecs.decode(self._frame.payload)
        except CodecError as error:
            self._codec_error = str(error)
            return self._frame.payload
        self._codec_error = ""
        return payload


class Gap:
    """The connection to NATS was away: what was published meanwhile was not seen."""

    size = 0


class Watcher:
    """Takes what its feeds see until it ends."""

    def __init__(self) -> None:
        self._waiting: deque[Seen | Gap] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._why: Refusal | None = None

    @property
    def is_slow(self) -> bool:
        """Whether it was dropped because it did not keep up."""
        return self._why is not None and self._why.reason is Reason.NOT_READING

    def offer(self, seen: Seen | Gap) -> None:
        """Put something in line. Never waits; where there is no room, the watcher ends."""
        if self._why is not None:
            return
        if len(self._waiting) >= MAX_MESSAGES or self._bytes + seen.size > max(MAX_BYTES, seen.size):
            self.drop(f"{MAX_MESSAGES} messages or {MAX_BYTES >> 20} MiB wait for it")
            return
        self._waiting.append(seen)
        self._bytes += seen.size
        self._wake.set()

    def drop(self, why: str) -> Refusal:
        """End it at once because it does not keep up; gives what it is told."""
        self._waiting.clear()
        what = f"this watcher is too slow: {why}. Come again, and read faster or watch fewer events"
        refusal = Refusal(Reason.NOT_READING, what)
        self.end(refusal)
        return refusal

    def end(self, why: Refusal) -> None:
        """Let it take what waits, then end."""
        if self._why is None:
            self._why = why
            self._wake.set()

    async def take(self) -> list[Seen | Gap]:
        """Wait until there is something, and give all of it.

        Raises:
            Refusal: The watcher has ended, and why.
        """
        while not self._waiting:
            if self._why is not None:
                raise self._why
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return taken
