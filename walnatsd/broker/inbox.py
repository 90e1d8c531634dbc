"""Where answers to calls come in: core NATS messages, which nothing keeps for who is away."""

import asyncio
import contextlib
import secrets
from collections.abc import Iterator

from walnatsd.broker.wire import Frame


class Inbox:
    """Futures by token, behind one subscription.

    Who answers a call gets to know a subject of this inbox. So it is not the inbox of PubAcks, and its tokens can't be
    guessed: nobody can answer a call that was not put to them.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}.{secrets.token_hex(9)}."
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self.losses = 0
        """How often the connection was lost. What was sent here while it was away is gone."""

    @property
    def subject(self) -> str:
        """What to subscribe to."""
        return self._prefix + "*"

    @contextlib.contextmanager
    def expect(self) -> Iterator[tuple[str, asyncio.Future[Frame]]]:
        """Give a reply subject, and a future of the first message that comes there while the body runs.

        The future outlives reconnects; it has no time limit of its own.
        """
        token = secrets.token_hex(8)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        try:
            yield self._prefix + token, future
        finally:
            del self._waiting[token]

    def receive(self, frame: Frame) -> None:
        """Hand a message to who waits for it. The first one counts."""
        future = self._waiting.get(frame.subject[len(self._prefix) :])
        if future is not None and not future.done():
            future.set_result(frame)
