"""A real receiver of StatsD, over UDP."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from support.waiting import until


class StatsdReceiver(asyncio.DatagramProtocol):
    """Adds counts up and records durations."""

    def __init__(self) -> None:
        self.address = ""
        self.packets: list[bytes] = []
        self.counts: Counter[str] = Counter()
        self.histograms: dict[str, list[float]] = {}

    def datagram_received(self, data: bytes, _addr: object) -> None:
        self.packets.append(data)
        for line in data.decode().split("\n"):
            name, _, rest = line.partition(":")
            value, kind = rest.split("|")
            if kind == "c":
                self.counts[name] += int(value)
            else:
                assert kind == "h", line
                self.histograms.setdefault(name, []).append(float(value))

    async def wait_for(self, name: str, count: int) -> None:
        """Wait until a count has come so far."""
        await until(lambda: self.counts[name] >= count, what=f"{name} {count}; have {self.counts}")


@contextlib.asynccontextmanager
async def statsd_receiver(host: str = "127.0.0.1") -> AsyncIterator[StatsdReceiver]:
    loop = asyncio.get_running_loop()
    transport, receiver = await loop.create_datagram_endpoint(StatsdReceiver, local_addr=(host, 0))
    port = transport.get_extra_info("sockname")[1]
    receiver.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        yield receiver
    finally:
        transport.close()
