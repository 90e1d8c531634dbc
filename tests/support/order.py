"""A receiver that watches the order of each key."""

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.receiver import receiver as plain_receiver

Answer = Callable[["Seen"], Awaitable[int]]


@dataclass
class Seen:
    """One attempt, from the first byte to the answer."""

    key: str
    number: int
    """Which message of its key, from 0."""
    sequence: int
    attempt: int
    sidecar: str
    """Who sent it, from the header `x-sidecar`; empty where there is none."""
    begin: float
    end: float | None = None
    status: int = 0


@dataclass
class Recorder:
    """Attempts in the order in which they came."""

    receiver: Receiver
    answer: Answer
    attempts: list[Seen] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.receiver.url

    @property
    def messages(self) -> set[tuple[str, int]]:
        """Which messages were seen."""
        return {(seen.key, seen.number) for seen in self.attempts}

    def done(self) -> set[tuple[str, int]]:
        """Which messages were answered with 2xx or 4xx, so that they need not come again."""
        return {(seen.key, seen.number) for seen in self.attempts if 200 <= seen.status < 500}

    def of_key(self, key: str) -> list[Seen]:
        return [seen for seen in self.attempts if seen.key == key]

    async def take(self, received: Received) -> web.StreamResponse:
        body = json.loads(received.body)
        clock = asyncio.get_running_loop().time
        seen = Seen(
            str(body["key"]), body["n"], int(received.headers["walnats-sequence"]), received.attempt,
            received.headers.get("x-sidecar", ""), clock(),
        )  # fmt: skip
        self.attempts.append(seen)
        seen.status = await self.answer(seen)
        seen.end = clock()
        return web.Response(status=seen.status)

    def check(self, *, revenants: frozenset[str] = frozenset()) -> None:
        """Of a key: no two attempts at a time, and no message is seen before all earlier ones have had their answer.

        Args:
            revenants: Sidecars that were stopped and came back. An attempt that such a one had begun before the stop, on
                its own clock, may arrive after it came back: a repeat, and not alone. That is the documented hole.
        """
        by_key: dict[str, list[Seen]] = defaultdict(list)
        for seen in self.attempts:
            by_key[seen.key].append(seen)
        for key, attempts in by_key.items():
            known: list[Seen] = []
            stray: list[Seen] = []
            for seen in attempts:
                if any(seen.number == other.number for other in known):
                    if seen.sidecar in revenants:
                        stray.append(seen)
                else:
                    done = {other.number for other in known if 200 <= other.status < 500}
                    missing = set(range(seen.number)) - done
                    assert not missing, f"{key}: {seen.number} is seen before {sorted(missing)} are done"
                for other in known:
                    if (other.end is None or other.end > seen.begin) and seen not in stray and other not in stray:
                        raise AssertionError(f"{key}: {other} and {seen} at the same time")
                known.append(seen)


async def accept(_seen: Seen) -> int:
    return 204


@contextlib.asynccontextmanager
async def recorder(answer: Answer = accept) -> AsyncIterator[Recorder]:
    async with plain_receiver() as receiver:
        record = Recorder(receiver, answer)
        receiver.answer = record.take
        yield record


async def emit_all(nats: NatsServer, event: str, messages: list[tuple[str, int]]) -> None:
    """Store messages as any other client of NATS would."""
    async with nats.jetstream() as jetstream:
        for key, number in messages:
            await jetstream.publish(event, json.dumps({"key": key, "n": number}).encode())


def interleaved(keys: int, each: int) -> list[tuple[str, int]]:
    """Messages of some keys, taking turns."""
    return [(f"k{key}", number) for number in range(each) for key in range(keys)]
