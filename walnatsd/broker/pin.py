"""The pin: the server gives an ordered consumer's messages to one client at a time, and says so (ADR-42 of NATS).

A sidecar without the pin asks like everybody else; with the first message that it gets it is pinned, until it is silent
for the consumer's `priority_timeout` or somebody takes the pin away.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

import orjson
import structlog

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import BrokerError
from walnatsd.broker.jetstream import JetStream
from walnatsd.broker.order import GROUP
from walnatsd.broker.wire import Frame, to_ns

PROOFS_PER_TIMEOUT = 4

_HEADER = b"Nats-Pin-Id:"
_PENDING = b"Nats-Pending-Messages:"
_ANSWERED_AFTER_S = 0.005
_RETRY_S = 0.1
_NO_MESSAGES = 404
_NOT_OURS = (400, 423)
"""The consumer has no such group any more, or another client is pinned."""

_log = structlog.get_logger("walnatsd.pin")


def awake_clock() -> float:
    """Seconds, going forward also while the machine sleeps, where the system can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Pin:
    """This sidecar's pin on one consumer, and the proof that it is a living one.

    Messages that this sidecar holds go to nobody else while the pin is ours, nor while our pulses arrive. Both are
    certain only for a while after the server answered: `is_proven` says whether they still are. Before every start of an
    attempt this must be asked, for a process may have been stopped, or cut off, between any two of its steps.
    """

    def __init__(
        self,
        connection: Connection,
        jetstream: JetStream,
        *,
        stream: str,
        consumer: str,
        timeout_s: float,
        ack_wait_s: float,
        gained: Callable[[], None],
        lost: Callable[[], None],
        proven: Callable[[], None],
        clock: Callable[[], float] = awake_clock,
    ) -> None:
        """Prepare, without a pin.

        Args:
            connection: To NATS.
            jetstream: The API.
            stream: Name of the stream.
            consumer: Name of the consumer, which has the priority group.
            timeout_s: The consumer's `priority_timeout`.
            ack_wait_s: The consumer's `ack_wait`.
            gained: Called when this sidecar is pinned anew, before the first message under that pin is handed on.
            lost: Called when it is not pinned any more.
            proven: Called when the pin is proven again after it was not.
            clock: Seconds, going forward.
        """
        self._connection = connection
        self._jetstream = jetstream
        self._next = f"{jetstream.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._unpin = f"CONSUMER.UNPIN.{stream}.{consumer}"
        self._names = {"stream": stream, "consumer": consumer}
        self._timeout_s = timeout_s
        # Pulses go out three times per ack_wait. What one of them kept is ours for two thirds of it at least.
        self._proof_lasts_s = min(timeout_s, ack_wait_s) / 2
        self._period_s = min(timeout_s, ack_wait_s) / PROOFS_PER_TIMEOUT
        self._gained = gained
        self._lost = lost
        self._proven = proven
        self._clock = clock
        self._id: str | None = None
        self._seen_at = -math.inf
        self._proven_at = -math.inf
        self._anew = asyncio.Event()

    @property
    def is_ours(self) -> bool:
        """Whether this sidecar is pinned, as far as it knows."""
        return self._id is not None

    @property
    def is_proven(self) -> bool:
        """Whether it is certain right now that what this sidecar holds is held by nobody else."""
        return self._id is not None and self._clock() - self._proven_at < self._proof_lasts_s

    @property
    def request(self) -> dict[str, str]:
        """What a pull must say."""
        return {"group": GROUP} if self._id is None else {"group": GROUP, "id": self._id}

    def see(self, frame: Frame) -> bool:
        """Read a message's pin; False where it has none, so that the consumer is not a pinned one any more."""
        begin = frame.head.rfind(_HEADER)  # the server's own is the last
        if begin < 0:
            self.lose("the consumer's priority group is gone")
            return False
        end = frame.head.index(b"\r\n", begin)
        found = frame.head[begin + len(_HEADER) : end].strip().decode()
        if found != self._id:
            self._id, self._seen_at, self._proven_at = found, self._clock(), -math.inf
            self._anew.set()
            self._gained()
        return True

    def lose(self, why: str) -> None:
        """Take note that the pin is not ours any more."""
        if self._id is not None:
            _log.info("this sidecar serves the ordered actor no more", **self._names, why=why)
            self._id = None
            self._lost()

    async def keep(self) -> None:
        """Keep the pin while there is one, for ever: the server wants a pull before each `priority_timeout` is over."""
        while True:
            self._anew.clear()
            pause_s = None
            if self._id is not None:
                await self._connection.wait_connected()
                await self._renew()
                pause_s = self._period_s if self.is_proven else min(self._period_s, _RETRY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._anew.wait()

    async def _renew(self) -> None:
        """Ask for what nobody can have: a message of one byte, headers and all. It renews the pin, and is answered."""
        pin, asked_at, was_proven = self._id, self._clock(), self.is_proven
        silence_s = asked_at - max(self._proven_at, self._seen_at)
        if silence_s > self._timeout_s:  # by now another one may have had the pin, and be gone again
            self.lose(f"nothing was heard of the server for {silence_s:.1f} s")
            return
        try:
            answer = await self._connection.request(self._next, self._empty_pull(pin), timeout_s=self._proof_lasts_s)
        except BrokerError:
            return
        if pin is None or pin != self._id:
            return
        if answer.status in _NOT_OURS:
            self.lose(f"the server says: {answer.status} {answer.description}")
        elif answer.status == _NO_MESSAGES or _PENDING in answer.head:  # others tell of a consumer that moves or goes
            self._proven_at = asked_at
            if not was_proven and self.is_proven:
                self._proven()

    async def give_up(self) -> None:
        """Let another sidecar be pinned at once."""
        pin, was_proven, self._id = self._id, self.is_proven, None
        if pin is None or not was_proven:
            return  # it may be another's by now
        with contextlib.suppress(BrokerError):
            await self._jetstream.request(self._unpin, {"group": GROUP})
            # Servers up to 2.12 look for the next one only when something happens; a pull with the old pin is something.
            await self._connection.request(self._next, self._empty_pull(pin), timeout_s=self._proof_lasts_s)

    def _empty_pull(self, pin: str | None) -> bytes:
        expires = to_ns(_ANSWERED_AFTER_S)
        return orjson.dumps({"batch": 1, "max_bytes": 1, "expires": expires, "group": GROUP, "id": pin})
