"""mypy and pyright, both strict, find in user code what is wrong, and nothing where all is right."""

import json
import re
import subprocess
import sys
from pathlib import Path

from support.node_packages import require_node_packages

USER_CODE = """
import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never, assert_type

from google.protobuf.timestamp_pb2 import Timestamp
from marshmallow import Schema

import walnatsd_client as walnatsd
from walnatsd_client import testing


@dataclass
class Parcel:
    id: int


COUNT = walnatsd.Event("counts", int)
PING = walnatsd.Event("pings", None, description="nothing to say")
PARCEL = walnatsd.Event("parcels", Parcel, limits=walnatsd.Limits(age=60))
WORDS = walnatsd.Event("words", list[str])
MOMENT = walnatsd.Event("moments", Timestamp)
PACKED = walnatsd.Event("packed", Parcel, serializer=walnatsd.MessagePack(Parcel))
LOOSE = walnatsd.Event("loose", int, serializer=walnatsd.MessagePack())
LOADED = walnatsd.Event("loaded", type("ParcelSchema", (Schema,), {}))
META = walnatsd.CloudEvent("7", "/warehouse", "parcels", time=datetime.now(UTC), extensions={"urgent": True})

assert_type(COUNT, walnatsd.Event[int])
assert_type(PING, walnatsd.Event[None])
assert_type(PARCEL, walnatsd.Event[Parcel])
assert_type(WORDS, walnatsd.Event[list[str]])
assert_type(COUNT.decode(b"1"), int)
assert_type(MOMENT, walnatsd.Event[Timestamp])
assert_type(PACKED, walnatsd.Event[Parcel])
assert_type(LOOSE.decode(b"1"), int)
assert_type(LOADED, walnatsd.Event[Any])

walnatsd.Event("packed", int, serializer=walnatsd.MessagePack(Parcel))  # wrong: arg-type
walnatsd.CloudEvent("7", "/warehouse")  # wrong: call-arg
walnatsd.CloudEvent("7", "/warehouse", "parcels", time="now")  # wrong: arg-type
MOMENT.encode(Parcel(1))  # wrong: arg-type
walnatsd.Event("counts", 1)  # wrong: call-overload
walnatsd.Event("counts", int, replicsa=3)  # wrong: call-overload
walnatsd.Event("counts", int, storage="disk")  # wrong: call-overload
walnatsd.Limits(60)  # wrong: call-arg
COUNT.encode("x")  # wrong: arg-type


async def handle(count: int) -> None: ...
def handle_now(count: int) -> None: ...
def handle_words(words: list[str]) -> int: return len(words)
def handle_text(text: str) -> None: ...


ACTOR = walnatsd.Actor("show", COUNT, handle, retry=walnatsd.RetryPolicy(max_attempts=3))
assert_type(ACTOR, walnatsd.Actor[int])
walnatsd.Actor("show", COUNT, handle_now)
walnatsd.Actor("show", COUNT, print)
walnatsd.Actor("show", WORDS, handle_words)
walnatsd.Actor("show", COUNT, handle_text)  # wrong: arg-type
walnatsd.Actor("show", COUNT, handle, priority="urgent")  # wrong: arg-type

def handle_counts(counts: list[int]) -> None: ...
def handle_texts(texts: list[str]) -> None: ...


walnatsd.BatchActor("sum", COUNT, handle_counts, batch=walnatsd.Batch(max_size=10))
walnatsd.BatchActor("sum", COUNT, handle_texts)  # wrong: arg-type
walnatsd.BatchActor("sum", COUNT, handle)  # wrong: arg-type
assert_type(WORDS.with_response(int), walnatsd.EventWithResponse[list[str], int])
assert_type(WORDS.with_response(int).decode_response(b"1"), int)
walnatsd.Actor("count", WORDS.with_response(int), handle_words, execute_in="process")
walnatsd.Actor("count", COUNT, walnatsd.suppress(KeyError)(handle_now), execute_in="cloud")  # wrong: arg-type
walnatsd.Actor("count", COUNT, walnatsd.require(lambda: True)(handle))

walnatsd.asgi_app(ACTOR, walnatsd.Actor("show", PARCEL, print), secrets=["whsec_"])
walnatsd.asgi_app(COUNT)  # wrong: arg-type


async def main() -> None:
    async with walnatsd.connect() as conn:
        await conn.register(COUNT, PARCEL, ACTOR)
        await conn.register("counts")  # wrong: arg-type
        assert_type(asyncio.create_task(conn.listen(ACTOR, walnatsd.Actor("show", PARCEL, print))), asyncio.Task[Never])
        asyncio.create_task(conn.listen(ACTOR, max_in_flight="x"))  # wrong: arg-type
        asyncio.create_task(conn.listen(COUNT))  # wrong: arg-type
        receipt = await conn.emit(COUNT, 1, uid="one", delay=5)
        assert_type(receipt.sequence, int)
        await conn.emit(PING, None)
        await conn.emit(PARCEL, Parcel(1), meta=META, deliver_at=datetime.now(UTC))
        await conn.emit(PARCEL, Parcel(1), meta={"ce-id": "7"})  # wrong: arg-type
        await conn.emit(LOADED, {"id": 1})
        await conn.emit(WORDS, ["a"])
        await conn.emit(COUNT, "x")  # wrong: misc
        await conn.emit(COUNT, None)  # wrong: misc
        await conn.emit(PING, 1)  # wrong: misc
        await conn.emit(PARCEL, {"id": 1})  # wrong: misc
        await conn.emit(WORDS, [1])  # wrong: misc
        assert_type(await conn.request(WORDS.with_response(int), ["a"], timeout=4), int)
        await conn.request(WORDS.with_response(int), [1])  # wrong: misc
        async with conn.monitor(COUNT) as feed:
            async for seen in feed:
                assert_type(seen.message, int)
        conn.monitor("counts")  # wrong: arg-type
        await conn.request(WORDS, ["a"])  # wrong: arg-type
        receipt.sequence = 2  # wrong: misc
    walnatsd.current_delivery().attempt = 3  # wrong: misc
    async with testing.connect(ACTOR) as memory:
        assert_type(memory.emitted(PARCEL)[0].message, Parcel)
        assert_type(memory.dead_letters(ACTOR), tuple[testing.DeadLetter, ...])
        as_real: walnatsd.Connection = memory
        await as_real.emit(COUNT, 1)
        await memory.emit(COUNT, "x")  # wrong: misc
        memory.emitted(ACTOR)  # wrong: arg-type


def blocking() -> None:
    with walnatsd.connect_sync() as conn:
        conn.register(COUNT, ACTOR)
        assert_type(conn.emit(COUNT, 1), walnatsd.Receipt)
        assert_type(conn.request(WORDS.with_response(int), ["a"]), int)
        conn.emit(COUNT, "x")  # wrong: misc
        conn.listen(ACTOR)  # wrong: attr-defined
    with testing.connect_sync(ACTOR) as memory:
        assert_type(memory.emitted(COUNT)[0].message, int)
"""


def wrong_lines() -> dict[int, str]:
    """Lines of the code that are wrong, each with mypy's word for it."""
    found = [re.search(r"# wrong: ([\w-]+)$", line) for line in USER_CODE.splitlines()]
    return {number: code[1] for number, code in enumerate(found, start=1) if code}


def test_mypy_strict_finds_every_wrong_line_and_only_those(tmp_path: Path) -> None:
    (tmp_path / "user_code.py").write_text(USER_CODE)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=cache", "user_code.py"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^user_code\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    assert {(int(line), code) for line, code in found} == set(wrong_lines().items()), output


def test_pyright_strict_finds_every_wrong_line_and_only_those(tmp_path: Path) -> None:
    pyright = require_node_packages() / "pyright" / "index.js"
    (tmp_path / "user_code.py").write_text(USER_CODE)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    command = ["node", str(pyright), "--outputjson", "--pythonpath", sys.executable, "user_code.py"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    found = {each["range"]["start"]["line"] + 1 for each in json.loads(output)["generalDiagnostics"]}
    assert found == set(wrong_lines()), output
