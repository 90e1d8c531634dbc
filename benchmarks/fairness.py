"""What a dead actor with a hundred thousand waiting messages costs its neighbour.

    python -m benchmarks.fairness [--crowd 100000] [--messages 10000] [--rounds 3]

In one run, in turn and several times: the neighbour alone; beside an actor that refuses connections; beside one that
takes requests and never answers. Each time a real nats-server holds the dead actor's messages, the daemon runs in a
process of its own, and the neighbour first works off a backlog (throughput), then gets single messages at a steady pace
(latency from the publish to the request). The columns with an x compare with the neighbour alone: 1.00 is a perfect score.
"""

import argparse
import asyncio
import contextlib
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks import stage  # noqa: F401 - makes the parts of the tests importable
from benchmarks.sink import Sink
from support.actors import declare, fill, handed_over, unsettled
from support.daemon import config_text, process
from support.nats_server import NatsServer, nats_server
from support.waiting import until

PACE_S = 0.005
PACED = 600
PATIENCE_S = 300.0
LEARNING_S = 3.0
"""How long a dead actor is given to be found out before the neighbour is measured."""


class Hole(asyncio.Protocol):
    """Takes requests and never answers."""


@dataclass
class Figures:
    """What the rounds gave for one kind of neighbourhood."""

    per_s: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    handed_over: list[int] = field(default_factory=list)
    """Of the dead actor's messages, redeliveries included."""


async def main() -> None:
    arguments = _arguments()
    figures = {"alone": Figures(), "beside refused": Figures(), "beside hanging": Figures()}
    with tempfile.TemporaryDirectory() as folder:
        async with nats_server(Path(folder) / "nats") as nats, nats.jetstream() as jetstream:
            await declare(jetstream, "dead", "print")
            await declare(jetstream, "alive", "print")
            await fill(jetstream, "dead", arguments.crowd)
            for number in range(arguments.rounds):
                kinds = list(figures)
                for kind in kinds[number % 3 :] + kinds[: number % 3]:  # nobody is always the first
                    print(f"round {number + 1} of {arguments.rounds}: {kind}", flush=True)
                    await _round(kind, figures[kind], nats, Path(folder) / f"{number}-{kind}", arguments)
            left = await unsettled(jetstream, "dead")
    _show(figures, left)


async def _round(kind: str, figures: Figures, nats: NatsServer, folder: Path, arguments: argparse.Namespace) -> None:
    arrived: list[tuple[float, bytes]] = []
    async with (
        _listen(lambda: Sink(lambda body, at: arrived.append((at, body)))) as alive,
        _dead(kind) as dead,
        nats.jetstream() as jetstream,
    ):
        events = ["alive", "dead"] if dead else ["alive"]
        urls = {"alive": f"http://127.0.0.1:{alive}/", "dead": f"http://127.0.0.1:{dead}/"}
        config = config_text(
            nats.url,
            events=[{"name": event} for event in events],
            actors=[{"name": "print", "event": event, "url": urls[event]} for event in events],
        )
        before = await handed_over(jetstream, "dead")
        async with process(folder, config) as daemon:
            await asyncio.sleep(LEARNING_S)
            await fill(jetstream, "alive", arguments.messages)
            await until(lambda: len(arrived) == arguments.messages, timeout_s=PATIENCE_S)
            figures.per_s.append((len(arrived) - 1) / (arrived[-1][0] - arrived[0][0]))
            arrived.clear()
            for _ in range(PACED):
                await jetstream._nc.publish("alive", repr(time.monotonic()).encode())
                await jetstream._nc.flush()
                await asyncio.sleep(PACE_S)
            await until(lambda: len(arrived) == PACED, timeout_s=PATIENCE_S)
            figures.latencies_ms += [(at - float(sent)) * 1000 for at, sent in arrived]
            figures.handed_over.append(await handed_over(jetstream, "dead") - before)
            await daemon.end()


@contextlib.asynccontextmanager
async def _listen(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def _dead(kind: str) -> AsyncIterator[int]:
    """The port of an actor that is dead in this way; 0 where there is none."""
    if kind == "beside hanging":
        async with _listen(Hole) as port:
            yield port
    elif kind == "beside refused":
        with socket.socket() as closed:  # bound and not listening: nobody else gets the port, and it refuses
            closed.bind(("127.0.0.1", 0))
            yield closed.getsockname()[1]
    else:
        yield 0


def _show(figures: dict[str, Figures], left: int) -> None:
    alone = figures["alone"]
    base = statistics.median(alone.per_s)
    base_p50 = statistics.median(alone.latencies_ms)
    print(f"\n{'the neighbour':<16}{'per s':>8}{'time x':>8}{'p50 ms':>9}{'p99 ms':>9}{'p50 x':>8}   dead handed over")
    for kind, each in figures.items():
        per_s, p50 = statistics.median(each.per_s), statistics.median(each.latencies_ms)
        p99 = statistics.quantiles(each.latencies_ms, n=100)[98]
        print(
            f"{kind:<16}{per_s:>8.0f}{base / per_s:>8.2f}{p50:>9.2f}{p99:>9.2f}{p50 / base_p50:>8.2f}"
            f"   {max(each.handed_over)} in a round at most"
        )
    print(f"\n{left} messages of the dead actor still wait")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crowd", type=int, default=100_000, help="messages that wait for the dead actor")
    parser.add_argument("--messages", type=int, default=10_000, help="backlog of the neighbour")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
