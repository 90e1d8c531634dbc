"""Figures over StatsD, under the names that walnats' StatsdMiddleware gives them."""

import asyncio
import socket
from collections import Counter

import structlog

from walnatsd.observe.metrics import Metrics
from walnatsd.observe.sparingly import Sparingly

FLUSH_S = 0.5
PACKET_BYTES = 1432
"""What fits a packet on every Ethernet: 1500 less the headers of IPv6 and UDP, and some room for tunnels."""
MOST_DURATIONS = 20_000
"""Durations kept for one flush; those beyond are not sent, and counted. All counts are sent."""
RESOLVE_AGAIN_S = 60.0
SAY_AGAIN_S = 60.0

_log = structlog.get_logger("walnatsd.statsd")

SocketAddress = tuple[socket.AddressFamily, tuple[object, ...]]


class Statsd:
    """Gathers figures and sends them twice a second, in the DogStatsD format that walnats' client speaks.

    Counts of a flush are added up. Nobody answers over UDP: where nobody listens, the figures are lost and nothing else is.
    """

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        """Prepare; nothing is sent before `run`.

        Args:
            host: Who listens. Resolved again every minute, and at once where sending fails.
            port: Where.
            metrics: Where packets are counted.
        """
        self._host = host
        self._port = port
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._counts: Counter[str] = Counter()
        self._durations: list[str] = []
        self._unsent_durations = 0
        self._address: SocketAddress | None = None
        self._resolve_at = 0.0
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self._complaints = Sparingly(SAY_AGAIN_S, self._loop.time)

    # ---- what happens

    def started(self, event: str, actor: str, count: int = 1) -> None:
        """Count attempts that begin."""
        self._counts[f"walnats.{event}.{actor}.started"] += count

    def processed(self, event: str, actor: str, duration_s: float) -> None:
        """Count an attempt that the actor acknowledged, and note how long it took."""
        self._counts[f"walnats.{event}.{actor}.processed"] += 1
        if len(self._durations) < MOST_DURATIONS:
            self._durations.append(f"walnats.{event}.{actor}.duration:{duration_s:.6f}|h")
        else:
            self._unsent_durations += 1

    def failed(self, event: str, actor: str) -> None:
        """Count an attempt that came to anything else."""
        self._counts[f"walnats.{event}.{actor}.failed"] += 1

    # ---- sending

    async def run(self) -> None:
        """Send until cancelled, and then the rest."""
        try:
            while True:
                await self._resolve()
                await asyncio.sleep(FLUSH_S)
                self._flush()
        finally:
            self._flush()
            for each in self._sockets.values():
                each.close()

    async def _resolve(self) -> None:
        if self._loop.time() < self._resolve_at:
            return
        try:
            [(family, _, _, _, address), *_] = await self._loop.getaddrinfo(
                self._host, self._port, type=socket.SOCK_DGRAM
            )
        except OSError as error:
            self._say(f"can't resolve {self._host!r}: {error.strerror or error}")
            self._resolve_at = self._loop.time() + RESOLVE_AGAIN_S / 10
            return
        self._address = family, address
        self._resolve_at = self._loop.time() + RESOLVE_AGAIN_S

    def _flush(self) -> None:
        lines = [f"{name}:{count}|c" for name, count in self._counts.items()] + self._durations
        self._counts.clear()
        self._durations = []
        if self._unsent_durations:
            self._metrics.statsd_durations_dropped.inc(self._unsent_durations)
            self._unsent_durations = 0
        packet: list[str] = []
        size = 0
        for line in lines:
            if packet and size + len(line) + 1 > PACKET_BYTES:
                self._send("\n".join(packet))
                packet, size = [], 0
            packet.append(line)
            size += len(line) + 1
        if packet:
            self._send("\n".join(packet))

    def _send(self, packet: str) -> None:
        if self._address is None:  # it was said why
            self._metrics.statsd_packets("dropped").inc()
            return
        family, address = self._address
        try:
            self._socket(family).sendto(packet.encode(), address)
        except OSError as error:  # also where the socket's buffer is full
            self._metrics.statsd_packets("dropped").inc()
            self._say(error.strerror or str(error))
            self._resolve_at = 0.0
        else:
            self._metrics.statsd_packets("sent").inc()

    def _socket(self, family: socket.AddressFamily) -> socket.socket:
        if family not in self._sockets:
            opened = self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM)
            opened.setblocking(False)
        return self._sockets[family]

    def _say(self, why: str) -> None:
        if self._complaints.may_say():
            _log.warning(
                "figures can't be sent over StatsD; they are lost, nothing else is",
                address=f"{self._host}:{self._port}", why=why,
            )  # fmt: skip
