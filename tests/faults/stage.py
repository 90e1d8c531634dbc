"""Where a scenario plays: nats-servers, sidecars, actors and emitters, and the ledger that watches them."""

import asyncio
import contextlib
import itertools
import random
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nats.errors import Error
from nats.js import JetStreamContext

from faults.emitting import Door, Load, doors
from faults.ledger import Hole, Ledger
from faults.receivers import Receivers, slowly
from faults.sidecar import Sidecar
from faults.standstill import OBSERVER, Punctuality
from faults.verdict import Bound, Verdict
from support.cluster import Cluster, cluster
from support.daemon import config_text
from support.nats_server import NatsServer, nats_server
from support.proxy import Proxy, proxy
from support.waiting import until

ACTORS = {"orders": ("audit", "mail"), "scans": ("count",)}
JOBS = 16
"""Attempts that one actor may have in flight in one sidecar."""
IN_FLIGHT = JOBS * sum(len(names) for names in ACTORS.values())
"""What one sidecar may have in its hands, and so what its death may repeat."""
ACK_WAIT_S = 8
NO_OPTIONS: Mapping[str, dict[str, Any]] = MappingProxyType({})
FORGOTTEN_S = 1.0
"""A nats-server writes down what is acknowledged some 100 ms later; the rest is for a slow machine."""
SLOW_S = 0.1
"""How long the slow one of the actors takes, at most."""
PATIENCE_S = 90.0
"""How long a machine that has other work may take for what should happen at once."""


@dataclass(frozen=True)
class Form:
    """How much a scenario does."""

    rounds: int
    """How often things are broken."""
    rate: float
    """Emits a second."""
    hold_s: float
    """How long what is broken stays broken."""
    seconds: float = 0.0
    """How long it all lasts, where that is what counts."""
    flow_s: float = 1.0
    """How long messages flow before and after what is broken, at the rate."""


class Stage:
    """What a scenario is given. All that is started here ends with the scenario."""

    def __init__(
        self, folder: Path, sockets: Path, form: Form, seed: int, resources: contextlib.AsyncExitStack
    ) -> None:
        self.folder = folder
        self.form = form
        self.seed = seed
        self.chance = random.Random(seed)
        """The only source of chance, so that a seed gives the same faults again."""
        self.ledger = Ledger(ACTORS)
        self.punctuality = Punctuality()
        self.receivers = Receivers(self.ledger)
        # who answers at once has hardly anything in flight that a fault could hit
        self.receivers.answers["mail"] = slowly(lambda: random.uniform(0, SLOW_S))
        self.resources = resources
        self.sidecars: list[Sidecar] = []
        self.doors: list[Door] = []
        self.nats: NatsServer | Cluster | None = None
        self.figures: dict[str, float] = {}
        self._numbers = itertools.count()
        self._sockets = sockets
        self._timeline: list[tuple[float, str]] = []
        self._bounds: list[Bound] = []
        self._complaints: list[str] = []

    # ---- setting

    async def start_nats(self) -> NatsServer:
        """One nats-server with file storage."""
        self.nats = server = await self.resources.enter_async_context(nats_server(self.folder / "nats"))
        return server

    async def start_cluster(self) -> Cluster:
        """Three nats-servers; what is declared has three replicas."""
        self.nats = nodes = await self.resources.enter_async_context(cluster(self.folder / "cluster"))
        return nodes

    async def start_proxy(self, server: NatsServer) -> Proxy:
        """A way to a server that can be made bad."""
        way = await self.resources.enter_async_context(proxy(server.port))
        way.records = False
        return way

    async def start_sidecar(
        self, *servers: str, actors: Mapping[str, dict[str, Any]] = NO_OPTIONS, prelude: str = "", **parts: Any
    ) -> Sidecar:
        """A sidecar that declares everything, its doors open for the load.

        Args:
            servers: NATS URLs.
            actors: Options of actors that differ, by name.
            prelude: Python that runs in it first.
            parts: Parts of the config that differ from what all scenarios have.
        """
        name = f"sidecar-{len(self.sidecars) + 1}"
        replicas = 3 if isinstance(self.nats, Cluster) else 1
        actor = {
            "max_jobs": JOBS, "ack_wait": ACK_WAIT_S, "retry": {"delays": [0.1, 0.5], "max_attempts": None},
            "breaker": {"open_for": 0.5, "max_open_for": 1},
        }  # fmt: skip
        config = {
            "nats": {"servers": list(servers), "system_replicas": replicas},
            "grpc": {"listen": f"unix:{self._sockets}/{name}.grpc"},
            "http": {"listen": f"unix:{self._sockets}/{name}.http"},
            "log": {"level": "debug", "format": "json"},
            "events": [{"name": event, "replicas": replicas} for event in ACTORS],
            "actors": [
                actor | {"name": name, "event": event, "url": self.receivers.url(name)} | actors.get(name, {})
                for event, names in ACTORS.items()
                for name in names
            ],
        }
        text = config_text("", **(config | parts))
        sidecar = Sidecar(name, self.folder, self._sockets, self.ledger, servers, text, prelude)
        self.sidecars.append(sidecar)
        self.resources.push_async_callback(_make_end, sidecar)
        await sidecar.start()
        self.doors += await self.resources.enter_async_context(doors([sidecar.grpc_socket], [sidecar.http_socket]))
        return sidecar

    # ---- acting

    @contextlib.asynccontextmanager
    async def load(self, rate: float | None = None, *, through: Sequence[Door] | None = None) -> AsyncIterator[None]:
        """Emit while the body runs, then until every emit under way has its answer."""
        load, ended = self.emitters(through), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run(rate or self.form.rate, ended))
            try:
                yield
            finally:
                ended.set()

    def emitters(self, through: Sequence[Door] | None = None) -> Load:
        """Emitters that do nothing yet."""
        return Load(self.ledger, through or self.doors, list(ACTORS), self._numbers)

    async def kill_nats(self, server: NatsServer, away_s: float) -> None:
        """Kill a lone nats-server and start it again.

        What it confirmed in its last moment it may forget. A sidecar may read such a confirmation later, from a connection
        whose other end is dead.
        """
        since = time.time() - FORGOTTEN_S
        await server.kill()
        await asyncio.sleep(away_s)
        self.ledger.holes.append(Hole(since, time.time(), "nats-server was killed"))
        await server.start()

    async def progress(self, count: int | None = None) -> None:
        """Wait until so many more messages are acknowledged and so many calls came; those of `flow_s` by default."""
        count = count or max(20, int(self.form.rate * self.form.flow_s))
        acknowledged, sightings = self.ledger.acknowledged + count, self.ledger.sightings + count
        await until(
            lambda: self.ledger.acknowledged >= acknowledged and self.ledger.sightings >= sightings,
            timeout_s=PATIENCE_S, what=f"{count} more messages to flow",
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """After what is done in the body, wait until emits are refused."""
        before = self.ledger.refusals
        yield
        await until(lambda: self.ledger.refusals > before, timeout_s=PATIENCE_S, what="emits to be refused")

    async def settle(self) -> None:
        """Wait until every actor has handled every message and NATS knows it; a complaint where that does not come."""
        try:
            await until(lambda: not self.ledger.wanting, timeout_s=PATIENCE_S, what="all messages to arrive")
            await until(self._is_settled, timeout_s=PATIENCE_S, what="all messages to be settled without dead letters")
        except AssertionError as error:
            self.complain(str(error))

    async def are_ready(self) -> bool:
        """Whether all sidecars run and say that they are ready."""
        return all([each.sidecar is not None and await each.sidecar.is_ready() for each in self.sidecars])

    async def _is_settled(self) -> bool:
        with contextlib.suppress(Error, TimeoutError):
            async with self.jetstream() as jetstream:
                infos = [
                    await jetstream.consumer_info(event, name) for event, names in ACTORS.items() for name in names
                ]
                letters = (await jetstream.stream_info("walnatsd-dead-letters")).state.messages
                return not letters + sum(info.num_pending + info.num_ack_pending for info in infos)
        return False

    def jetstream(self) -> contextlib.AbstractAsyncContextManager[JetStreamContext]:
        """The plain library's view, which says nothing when its server goes."""
        assert self.nats is not None
        return self.nats.jetstream(error_cb=_ignore)

    # ---- telling

    def note(self, fault: str, *, repeats: int = 0, why: str = "") -> None:
        """A fault is done now.

        Args:
            fault: What is broken, in a few words.
            repeats: Messages that may come twice by it.
            why: The reason for that.
        """
        self._timeline.append((time.time(), fault))
        if repeats:
            self._bounds.append(Bound(repeats, why))

    def note_kill(self, sidecar: Sidecar, number: signal.Signals) -> None:
        """A sidecar is about to end: what it has in its hands may come twice if it has no time to settle it."""
        what = f"{number.name} of a sidecar"
        if number is signal.SIGKILL:
            self.note(what, repeats=IN_FLIGHT, why="in the hands of a killed sidecar")
        else:
            self.note(what)

    def note_forgetting(self, why: str) -> None:
        """What a lone nats-server confirmed in the last moment it may forget."""
        now = time.time()
        self.ledger.holes.append(Hole(now - FORGOTTEN_S, now, why))

    def complain(self, what: str) -> None:
        """Something is wrong that the ledger can't know."""
        self._complaints.append(what)

    async def end_sidecars(self) -> None:
        """Stop what runs in order, and complain of who can't be stopped or ended by itself."""
        for sidecar in self.sidecars:
            if sidecar.is_running:
                if code := await sidecar.end(signal.SIGTERM):
                    self.complain(f"{sidecar.name} ended with {code} when it was asked to stop")
            else:
                self.complain(f"{sidecar.name} ended by itself: {list(sidecar.lines)[-5:]}")
            for traceback in sidecar.tracebacks:
                self.complain(f"{sidecar.name} logged {traceback}")

    def verdict(self, seconds: float) -> Verdict:
        return Verdict(
            seed=self.seed,
            seconds=seconds,
            findings=self.ledger.findings(),
            bounds=tuple(self._bounds),
            timeline=tuple(self._timeline),
            figures=self.figures,
            complaints=tuple(self._complaints),
            stand_stills={OBSERVER: self.punctuality.stand_stills}
            | {sidecar.name: sidecar.stand_stills for sidecar in self.sidecars},
        )


async def _make_end(sidecar: Sidecar) -> None:
    if sidecar.is_running:
        await sidecar.end(signal.SIGKILL)


async def _ignore(_error: Exception) -> None:
    """A server that goes is what we are here for."""
