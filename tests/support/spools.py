"""A spool alone, without a daemon."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from walnatsd.config.settings import Spool as Settings
from walnatsd.observe.metrics import Metrics
from walnatsd.spool.entry import Entry
from walnatsd.spool.spool import Spool, open_spool


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def entry(number: int = 0, event: str = "counts", **options: Any) -> Entry:
    values = {"uid": f"u{number}", "header": {"Nats-Msg-Id": f"u{number}"}, "payload": b"%d" % number}
    return Entry(**{"event": event, "emitted_at": 1000.0, **values, **options})


def settings(path: Path, **options: Any) -> Settings:
    return Settings(path=str(path), **options)


@contextlib.asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Spool]:
    now = options.pop("now", Clock())
    async with open_spool(settings(path, **options), Metrics(), now=now) as spool:
        yield spool


async def all_of(spool: Spool, event: str = "counts") -> list[bytes]:
    found, after = [], 0
    while page := await spool.read(event, after):
        found += [kept.entry.payload for kept in page]
        after = page[-1].id
    return found
