"""One inbox for all replies: publish acks, settlements, JetStream's API."""

import asyncio
from collections.abc import Callable
from itertools import count as counted
from itertools import islice, repeat

from walnatsd.broker.errors import BrokerError, NoReplyError, NoRespondersError
from walnatsd.broker.wire import Frame

SWEEP_INTERVAL_S = 0.25
NO_ANSWER = "NATS did not answer in time"
_NOBODY = (None, 0.0, "", False)


class Replies:
    """Futures by reply subject. One sweep looks for late ones, so a request costs no timer of its own."""

    def __init__(
        self,
        inbox: str,
        why_silent: Callable[[str], str | None] = lambda _subject: None,
        on_group: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare waiting.

        Args:
            inbox: What reply subjects begin with.
            why_silent: Says why there is no answer from a subject, where that is known.
            on_group: Called when one that belongs to a group is waited for no longer.
        """
        self._prefix = inbox + "."
        self._why_silent = why_silent
        self._on_group = on_group
        self._tokens = counted(1)
        self._waiting: dict[str, tuple[asyncio.Future[Frame], float, str, bool]] = {}
        self._left: dict[str, int] = {}
        """How many more replies must come to a subject, where that is more than one."""
        self._loop = asyncio.get_running_loop()

    @property
    def subject(self) -> str:
        """What to subscribe to."""
        return self._prefix + "*"

    @property
    def waiting(self) -> int:
        """How many replies are waited for."""
        return len(self._waiting)

    @property
    def asked(self) -> list[str]:
        """Where replies are waited for from."""
        return [asked for _, _, asked, _ in self._waiting.values()]

    def expect(self, timeout_s: float, asked: str, *, in_group: bool = False) -> tuple[str, asyncio.Future[Frame]]:
        """Give a reply subject, and a future of what comes there when `asked` is asked, as one of a group or not.

        The future raises NoReplyError and NoRespondersError.
        """
        subject = f"{self._prefix}{next(self._tokens)}"
        future: asyncio.Future[Frame] = asyncio.Future(loop=self._loop)
        self._waiting[subject] = (future, self._loop.time() + timeout_s, asked, in_group)
        return subject, future

    def expect_many(self, count: int, timeout_s: float, asked: str) -> tuple[list[str], list[asyncio.Future[Frame]]]:
        """Give reply subjects and futures for several questions, as `expect` does for one."""
        loop, prefix, deadline = self._loop, self._prefix, self._loop.time() + timeout_s
        subjects = [f"{prefix}{token}" for token in islice(self._tokens, count)]
        futures: list[asyncio.Future[Frame]] = [asyncio.Future(loop=loop) for _ in subjects]
        self._waiting.update(zip(subjects, zip(futures, repeat(deadline), repeat(asked), repeat(False)), strict=False))
        return subjects, futures

    def expect_all(self, count: int, timeout_s: float, asked: str) -> tuple[str, asyncio.Future[Frame]]:
        """Give a reply subject, and a future of the last of so many replies that come there.

        The future raises NoReplyError where one of them does not come, and NoRespondersError where one says so.
        """
        subject, future = self.expect(timeout_s, asked)
        if count > 1:
            self._left[subject] = count
        return subject, future

    def receive(self, frame: Frame, times: int = 1) -> None:
        """Hand a reply to who waits for it. It came so many times."""
        if self._left:
            left = self._left.pop(frame.subject, 1)
            if left > times and not (frame.head and frame.status == 503):  # otherwise the others do not matter any more
                self._left[frame.subject] = left - times
                return
        future, _, _, in_group = self._waiting.pop(frame.subject, _NOBODY)
        if in_group:
            self._on_group()
        if future is None or future.done():
            return
        if frame.head and frame.status == 503:
            _fail(future, NoRespondersError("nobody answers there: JetStream or the stream is not available"))
        else:
            future.set_result(frame)

    def break_off(self) -> None:
        """Tell all who wait that the connection broke."""
        self._left.clear()
        waiting, self._waiting = self._waiting, {}
        for future, _, _, in_group in waiting.values():
            if in_group:
                self._on_group()
            if not future.done():
                _fail(future, NoReplyError("the connection to NATS broke before the answer came"))

    async def sweep(self) -> None:
        """Tell those who waited too long, for ever."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = self._loop.time()
            late = [subject for subject, (_, deadline, _, _) in self._waiting.items() if deadline <= now]
            for subject in late:
                future, _, asked, in_group = self._waiting.pop(subject)
                if in_group:
                    self._on_group()
                self._left.pop(subject, None)
                if not future.done():
                    _fail(future, NoReplyError(self._why_silent(asked) or NO_ANSWER))


def _fail(future: asyncio.Future[Frame], error: BrokerError) -> None:
    """Tell who waits. Where what was begun is not waited for any more, asyncio must not cry about it in the log."""
    future.set_exception(error)
    future.exception()
