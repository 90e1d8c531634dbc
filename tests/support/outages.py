"""NATS away and back, with a spool in between."""

from pathlib import Path
from typing import Any

from support.admin import admin
from support.daemon import Sidecar, config_text
from support.nats_server import NatsServer

NOBODY = "http://127.0.0.1:1/"
"""An actor that is never there: what is stored for it stays in the stream."""


def config(nats: NatsServer, folder: Path, /, **parts: Any) -> str:
    """A sidecar with a spool; the actor keeps what is stored."""
    defaults = {
        "events": [{"name": "counts"}],
        "actors": [{"name": "keeper", "event": "counts", "url": NOBODY}],
        "spool": {"path": str(folder / "spool.db")},
    }
    return config_text(nats.url, **(defaults | parts))


async def spool_status(sidecar: Sidecar) -> dict[str, Any]:
    """What the administration says of the spool."""
    status, answer = await admin(sidecar, "GET", "spool")
    assert status == 200, answer
    return answer


async def waiting(sidecar: Sidecar) -> int:
    """How many messages wait in the spool."""
    return int((await spool_status(sidecar))["messages"])


async def is_forwarded(sidecar: Sidecar) -> bool:
    return not await waiting(sidecar)
