"""The session of one listener: what it was handed and has not answered, and what waits to be sent to it."""

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from walnatsd.model.headers import DEFAULT_CONTENT_TYPE
from walnatsd.model.message import Message
from walnatsd.model.outcome import Outcome, Response, Verdict
from walnatsd.model.refusal import Refusal

HEARTBEAT_S = 5.0
TAKEN_BYTES = 1 << 20
"""Deliveries are gathered up to this size: common gRPC clients take messages of 4 MiB, unless told otherwise."""
OVERHEAD_BYTES = 256
LONGEST_RETRY_AFTER_S = 3600.0
SHOWN_CHARACTERS = 1024

ACKNOWLEDGED = Outcome(Verdict.ACKNOWLEDGED, "acknowledged")
LEFT = Outcome(Verdict.HANDED_BACK, "the listener left before it answered")


@dataclass(slots=True, eq=False)
class Handover:
    """One message in the hands of a listener."""

    id: int
    """Names it within the session."""
    message: Message
    attempt: int
    deadline: float
    """Until when the answer is waited for, in seconds since the epoch."""
    expires_at: float
    """The same on the clock of the event loop."""
    ended: Callable[[Outcome], None]
    """Takes what it came to."""


class Session:
    """One listener. It never has more than `max_in_flight` deliveries that it has not answered.

    `Listeners` hands over and expires; the server takes what is to be sent and brings the answers.
    """

    def __init__(
        self, max_in_flight: int, *, responds: bool, changed: Callable[[], None], ignored: Callable[[], None]
    ) -> None:
        """Begin.

        Args:
            max_in_flight: How many deliveries the listener takes at once.
            responds: Whether an ack carries a response.
            changed: Called when it takes no more.
            ignored: Called for each result that nobody waits for: it came late, twice or of nowhere.
        """
        self.max_in_flight = max_in_flight
        self.turn = 0
        """When it was last handed something; the lowest is served first."""
        self.handed_back = 0
        """Deliveries that it did not answer before it left."""
        self._responds = responds
        self._changed = changed
        self._ignored = ignored
        self._in_flight: dict[int, Handover] = {}
        self._queued: deque[Handover] = deque()
        self._last_id = 0
        self._some = asyncio.Event()
        self._closed = False
        self._why: Refusal | None = None

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def load(self) -> float:
        """Share of the places that are taken, from 0 to 1."""
        return len(self._in_flight) / self.max_in_flight if self.max_in_flight else 1.0

    # ---- for Listeners

    def hand_over(
        self, message: Message, attempt: int, ended: Callable[[Outcome], None], *, deadline: float, expires_at: float
    ) -> None:
        """Hand a message over; `ended` is called with what it comes to, unless it is forgotten before."""
        self._last_id += 1
        handover = Handover(self._last_id, message, attempt, deadline, expires_at, ended)
        self._in_flight[handover.id] = handover
        self._queued.append(handover)
        self._some.set()

    def forget(self, message: Message) -> None:
        """Forget a message that was handed over."""
        for handover in list(self._in_flight.values()):
            if handover.message is message:
                del self._in_flight[handover.id]

    def expire(self, now: float, outcome: Outcome) -> float | None:
        """Resolve what was not answered in time; gives when the next one expires.

        Of one actor all deliveries have the same time, so they expire in the order they were handed over.
        """
        for handover in list(self._in_flight.values()):
            if handover.expires_at > now:
                return handover.expires_at
            self._resolve(handover.id, outcome)
        return None

    def end(self, why: Refusal) -> None:
        """Hand back what is in flight, and let the stream end with this status."""
        self._why = self._why or why
        self.close()

    def close(self) -> None:
        """Hand back what is in flight."""
        self._closed = True
        self.max_in_flight = 0
        self._some.set()
        for handover_id in list(self._in_flight):
            self._hand_back(handover_id)

    # ---- for the server

    async def take(self) -> list[Handover] | None:
        """Wait for deliveries to send: all there are, as far as they fit one message.

        Gives none where it is time for a heartbeat, and None where the session is closed.

        Raises:
            Refusal: The session ends, and why.
        """
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                while not self._closed:
                    if taken := self._gather():
                        return taken
                    self._some.clear()
                    await self._some.wait()
        except TimeoutError:
            return []
        if self._why is not None:
            raise self._why
        return None

    def acknowledge(self, delivery_id: int, payload: bytes, content_type: str) -> None:
        """Take an ack."""
        outcome = ACKNOWLEDGED
        if self._responds:
            response = Response(payload, content_type or DEFAULT_CONTENT_TYPE)
            outcome = Outcome(Verdict.ACKNOWLEDGED, "acknowledged", response=response)
        self._answer(delivery_id, outcome)

    def retry(self, delivery_id: int, after_s: float | None, reason: str) -> None:
        """Take a wish for another attempt, where it says so, not before so many seconds."""
        if after_s is not None:
            after_s = min(max(after_s, 0.0), LONGEST_RETRY_AFTER_S)
        said = _shown(reason)
        failed = said or "the listener asked for another attempt"
        self._answer(delivery_id, Outcome(Verdict.FAILED, failed, retry_after_s=after_s, answer=said))

    def reject(self, delivery_id: int, reason: str) -> None:
        """Take a rejection."""
        said = _shown(reason)
        self._answer(delivery_id, Outcome(Verdict.REJECTED, said or "the listener rejected it", answer=said))

    def stop_taking(self) -> None:
        """Hand over nothing more, for the listener is about to leave; what has not been sent yet is handed back."""
        self.max_in_flight = 0
        for handover in self._queued:
            self._hand_back(handover.id)
        self._changed()

    def _answer(self, delivery_id: int, outcome: Outcome) -> None:
        if not self._resolve(delivery_id, outcome):
            self._ignored()

    def _gather(self) -> list[Handover]:
        gathered: list[Handover] = []
        size = 0
        while self._queued:
            handover = self._queued[0]
            if handover.id in self._in_flight:
                size += len(handover.message.payload) + OVERHEAD_BYTES
                if gathered and size > TAKEN_BYTES:
                    break
                gathered.append(handover)
            self._queued.popleft()
        return gathered

    def _hand_back(self, delivery_id: int) -> None:
        self.handed_back += self._resolve(delivery_id, LEFT)

    def _resolve(self, delivery_id: int, outcome: Outcome) -> bool:
        handover = self._in_flight.pop(delivery_id, None)
        if handover is None:
            return False
        handover.ended(outcome)
        return True


def _shown(reason: str) -> str:
    """Write a reason on one line, bounded."""
    return re.sub(r"\s+", " ", reason[:SHOWN_CHARACTERS]).strip()
