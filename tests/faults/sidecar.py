"""A walnatsd process of a scenario, and what its log tells the ledger."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from faults.ledger import Attempt, Ledger
from faults.standstill import STOOD_STILL, TELLER, StandStill
from support.daemon import Process
from walnatsd.broker import delivery

LET_GO = (delivery.FORGOTTEN, delivery.GONE, delivery.REPLACED)
"""What is logged of an ack that ends without NATS' word."""
KEPT_LINES = 1000


class SidecarLog:
    """Reads line by line: each attempt, and whether NATS confirmed its ack."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self._let_go: set[tuple[str, str, int]] = set()
        """Acks that ended without NATS' word, and whose attempts have no line yet: by stream, actor and sequence."""

    def read(self, line: dict[str, Any]) -> None:
        """Tell the ledger what a line says of an attempt. What was let go is logged before its attempt is."""
        match line.get("message"):
            case "attempt":
                self._attempt(line)
            case "listening":
                self._let_go.clear()  # what a killed process had no time to say more about
            case str(said) if said in LET_GO:
                self._let_go.add((line["stream"], line["consumer"], line["sequence"]))

    def _attempt(self, line: dict[str, Any]) -> None:
        uid, actor = line["uid"], line["actor"]
        at = datetime.fromisoformat(line["timestamp"]).timestamp()
        # the names of events have no dots here, and so are their streams'
        key = (line["event"], actor, line["sequence"])
        is_let_go = key in self._let_go
        self._let_go.discard(key)
        decision = f"{line['decision']}, let go" if is_let_go else line["decision"]
        self._ledger.attempt(uid, actor, Attempt(self._name, line["attempt"], at, line["duration_ms"] / 1000, decision))
        if line["decision"] == "Ack" and not is_let_go:
            self._ledger.confirm(uid, actor, at)


class Sidecar(Process):
    """A walnatsd process on Unix sockets of its own, so that it comes back to the same addresses."""

    def __init__(
        self, name: str, folder: Path, sockets: Path, ledger: Ledger, servers: Sequence[str], text: str, prelude: str
    ) -> None:
        super().__init__(folder / name, text, prelude=TELLER + prelude)
        self.name = name
        self.servers = servers
        self.grpc_socket = str(sockets / f"{name}.grpc")
        self.http_socket = str(sockets / f"{name}.http")
        self.tracebacks: list[str] = []
        self.connected_to = ""
        """Host and port of the nats-server, by its log."""
        self.stand_stills: list[StandStill] = []
        self._log = SidecarLog(name, ledger)
        self.lines = deque(maxlen=KEPT_LINES)  # type: ignore[assignment] - a long run has many

    def take(self, line: dict[str, Any]) -> None:
        """Keep what a reader of a failure needs; tell the ledger of attempts."""
        self._log.read(line)
        if line.get("message") == "attempt" and line["decision"] == "Ack":
            return
        if line.get("message") == STOOD_STILL:
            self.stand_stills.append(StandStill(line["until"], line["for_s"]))
            return
        if line.get("message") == "connected to NATS":
            self.connected_to = line["server"]
        if "Traceback" in str(line.get("exception", line["message"])):
            self.tracebacks.append(str(line))
        super().take(line)
