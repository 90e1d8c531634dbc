"""An actor on a port of its own, which can do everything wrong that a receiver can do."""

import asyncio
import contextlib
import ssl
import time
from typing import Literal

from faults.ledger import Ledger, Sighting
from support.conversations import Conversations

Manner = Literal["well", "slowly", "never", "garbage", "half an answer", "nothing", "errors"]
GARBAGE = b"\x16\x03\x01\x00\xffSSH-2.0-OpenSSH_9.2\r\n\x00" * 50
ANSWERS: dict[Manner, tuple[int, bytes]] = {
    "well": (204, b"HTTP/1.1 204 No Content\r\n\r\n"),
    "slowly": (204, b"HTTP/1.1 204 No Content\r\n\r\n"),
    "never": (0, b""),
    "garbage": (0, GARBAGE),
    "half an answer": (0, b"HTTP/1.1 20"),
    "nothing": (0, b""),
    "errors": (500, b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"),
}
"""The status that the ledger is told, and what is sent."""


class LoneReceiver:
    """Answers as `manner` says. Can die and come back: on its port, with another certificate, at another address."""

    def __init__(self, actor: str, ledger: Ledger) -> None:
        self.manner: Manner = "well"
        self.slow_s = 0.0
        self.port = 0
        self._actor = actor
        self._ledger = ledger
        self._server: asyncio.Server | None = None
        self._conversations = Conversations(self._answer)

    async def up(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        """Come, or come back."""
        self._server = await asyncio.start_server(
            self._conversations.accept, host, self.port, ssl=tls, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Die: calls in progress break off, and nobody listens any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.hang_up()

    async def hang_up(self) -> None:
        """Break all connections off, as a proxy does that is restarted."""
        await self._conversations.break_off()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; tell whether another one may come on this connection."""
        at = time.time()
        lines = (line.partition(": ") for line in head.decode("latin-1").split("\r\n"))
        headers = {name.lower(): value for name, _, value in lines}
        await reader.readexactly(int(headers["content-length"]))
        status = 0
        try:
            manner = self.manner
            if manner == "slowly":
                await asyncio.sleep(self.slow_s)
            elif manner == "never":
                await reader.read()  # until the caller hangs up
            status, answer = ANSWERS[manner]
            writer.write(answer)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        finally:
            self._ledger.see(
                headers["walnats-uid"], self._actor, Sighting(at, status, int(headers["walnats-sequence"]))
            )
        return status != 0
