"""Cases: emitting."""

import asyncio
import re

from benchmarks.case import Bar, Case, Figures, Scale
from benchmarks.stage import EVENT, PAYLOAD, Stage
from support.daemon import Sidecar

KEEPER = "keeper"
"""A consumer that keeps what is emitted in the stream, as an actor would."""


async def _load(stage: Stage, kind: str, address: str, scale: Scale, callers: int) -> float:
    await stage.begin_anew(KEEPER)
    arguments = ("--callers", callers, "--seconds", scale.seconds)
    return (await stage.load("benchmarks.loads.emit", kind, address, *arguments))["per_s"]


async def from_many(stage: Stage, scale: Scale) -> Figures:
    """64 callers that each wait for the confirmation."""
    nats = stage.nats.url
    await stage.begin_anew(KEEPER)
    async with stage.daemon(events=[{"name": EVENT}]) as daemon:
        assert daemon.sidecar is not None
        figures = {"client": await _load(stage, "client", daemon.sidecar.grpc, scale, 64)}
        figures |= {peer: await _load(stage, peer, nats, scale, 64) for peer in ("walnats", "faststream", "nats")}
        figures["batches"] = await _load(stage, "batch", daemon.sidecar.grpc, scale, 4)
        figures["HTTP"] = await _wrk(stage, daemon.sidecar, scale)
    return figures


async def from_one(stage: Stage, scale: Scale) -> Figures:
    """One caller, so each emit waits for the one before."""
    await stage.begin_anew(KEEPER)
    async with stage.daemon(events=[{"name": EVENT}]) as daemon:
        assert daemon.sidecar is not None
        return {
            "client": await _load(stage, "client", daemon.sidecar.grpc, scale, 1),
            "walnats": await _load(stage, "walnats", stage.nats.url, scale, 1),
        }


async def unary(stage: Stage, scale: Scale) -> Figures:
    """`Events.Emit` beside a server that does nothing."""
    await stage.begin_anew(KEEPER)
    async with stage.daemon(events=[{"name": EVENT}]) as daemon, stage.server("benchmarks.loads.echo") as echo:
        assert daemon.sidecar is not None
        return {
            "unary": await _load(stage, "unary", daemon.sidecar.grpc, scale, 64),
            "echo": await _load(stage, "echo", echo, scale, 64),
        }


async def _wrk(stage: Stage, sidecar: Sidecar, scale: Scale) -> float:
    """64 connections of wrk."""
    await stage.begin_anew(KEEPER)
    script = stage.folder / "emit.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{PAYLOAD.decode()}'\nwrk.headers['Content-Type'] = 'application/json'\n"
    )
    child = await asyncio.create_subprocess_exec(
        "wrk", "-t1", "-c64", f"-d{max(1, round(scale.seconds))}s", "-s", str(script),
        f"http://{sidecar.http}/v1/events/{EVENT}", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await child.communicate()
    text = out.decode()
    assert child.returncode == 0, text
    assert "Non-2xx" not in text, text
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found, text
    return float(found.group(1))


CASES = (
    Case(
        "emit, 64 callers",
        from_many,
        (
            Bar("client", 1.0, "walnats"),
            Bar("batches", 1.8, "walnats"),
            Bar("HTTP", 0.45, "walnats"),
        ),
        needs="wrk",
    ),
    Case("emit, one caller", from_one, (Bar("client", 0.3, "walnats"),)),
    Case("emit, unary gRPC", unary, (Bar("unary", 0.7, "echo"),)),
)
