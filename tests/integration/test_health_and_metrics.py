"""What probes, operators and load balancers see."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from support.daemon import Sidecar, config_text, process, running
from support.nats_server import NatsServer
from support.receiver import Received, Receiver
from support.waiting import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("", "walnatsd.v1.Events", "walnatsd.v1.Actors")


def config(server: NatsServer, receiver: Receiver | None = None, **parts: Any) -> str:
    quick = {"retry": {"delays": [0.05], "jitter": 0, "max_attempts": 2}}
    actors = [{"name": "print", "event": "counts", "url": receiver.url} | quick] if receiver else []
    return config_text(server.url, events=[{"name": "counts"}, {"name": "lone.some"}], actors=actors, **parts)


async def get(sidecar: Sidecar, address: str, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with sidecar.session.request(method, f"http://{address}{path}") as response:
        return response.status, response.content_type, await response.text()


# ---- HTTP


async def test_livez_answers_without_nats_and_readyz_names_what_is_missing(nats) -> None:
    async with running(config(nats)) as sidecar:
        assert await get(sidecar, sidecar.admin, "/livez") == (200, "application/json", '{"status":"alive"}')
        ready = '{"status":"ready","problems":{}}'
        assert await get(sidecar, sidecar.admin, "/readyz") == (200, "application/json", ready)
        await nats.kill()
        await until(lambda: _is_not_ready(sidecar))
        assert (await get(sidecar, sidecar.admin, "/livez"))[0] == 200
        status, kind, text = await get(sidecar, sidecar.admin, "/readyz")
        assert (status, kind) == (503, "application/json")
        assert text.startswith('{"status":"not ready","problems":{"nats":"waiting for NATS at ')


async def _is_not_ready(sidecar: Sidecar) -> bool:
    return not await sidecar.is_ready()


async def test_the_monitoring_address_answers_health_and_metrics_and_nothing_else(nats) -> None:
    async with running(config(nats, monitoring={"listen": "127.0.0.1:0"})) as sidecar:
        assert sidecar.monitoring not in ("", sidecar.admin)
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await get(sidecar, sidecar.monitoring, path))[0] == 200
            assert (await get(sidecar, sidecar.monitoring, path, "POST"))[0] == 405
        for path in ("/", "/admin/v1/actors", "/admin/v1/reload", "/v1/events/counts", "/openapi.json", "/metrics/x"):
            for method in ("GET", "POST", "DELETE"):
                assert (await get(sidecar, sidecar.monitoring, path, method))[0] == 404


# ---- gRPC


@contextlib.asynccontextmanager
async def health(sidecar: Sidecar) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def check(stub: health_pb2_grpc.HealthStub, service: str) -> int:
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


@pytest.mark.parametrize("service", SERVICES)
async def test_the_grpc_health_check_follows_readiness(nats, service) -> None:
    async with running(config(nats)) as sidecar, health(sidecar) as stub:
        assert await check(stub, service) == SERVING
        await nats.kill()
        await until(lambda: _is_not_ready(sidecar))
        assert await check(stub, service) == NOT_SERVING
        await nats.start()
        await until(sidecar.is_ready)
        assert await check(stub, service) == SERVING


async def test_the_grpc_health_check_does_not_know_other_services(nats) -> None:
    async with running(config(nats)) as sidecar, health(sidecar) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await check(stub, "walnatsd.v1.Nothing")
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
        watching = stub.Watch(health_pb2.HealthCheckRequest(service="walnatsd.v1.Nothing"))
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()


async def test_the_grpc_health_watch_tells_each_change_and_ends_when_the_daemon_stops(nats) -> None:
    now = asyncio.get_running_loop().time
    async with contextlib.AsyncExitStack() as stack:
        async with running(config(nats, shutdown_timeout=60)) as sidecar:
            stub = await stack.enter_async_context(health(sidecar))
            watching = stub.Watch(health_pb2.HealthCheckRequest())
            assert (await watching.read()).status == SERVING
            await nats.kill()
            assert (await watching.read()).status == NOT_SERVING
            await nats.start()
            assert (await watching.read()).status == SERVING
            began = now()
        assert now() - began < 10  # nobody waits for a watcher
        assert (await watching.read()).status == NOT_SERVING
        assert await watching.read() is grpc.aio.EOF
        assert await watching.code() is grpc.StatusCode.OK


async def test_reflection_lists_the_services_and_gives_their_files(nats) -> None:
    async with running(config(nats)) as sidecar, grpc.aio.insecure_channel(sidecar.grpc) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="walnatsd.v1.Events"),
        ]
        listed, file = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        "walnatsd.v1.Events", "walnatsd.v1.Actors", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    assert b"walnatsd/v1/events.proto" in file.file_descriptor_response.file_descriptor_proto[0]


# ---- metrics


async def samples(sidecar: Sidecar) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """What a Prometheus server reads: values by name and labels."""
    _, _, text = await get(sidecar, sidecar.admin, "/metrics")
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


async def test_every_metric_of_the_way_of_a_message_has_its_value(nats, receiver) -> None:
    release, once = asyncio.Event(), [503]

    async def answer(received: Received) -> web.StreamResponse:
        match received.body:
            case b"held":
                await release.wait()
            case b"bad":
                return web.Response(status=400)
            case b"failing":
                return web.Response(status=500)
            case b"late" if once:
                return web.Response(status=once.pop())
        return web.Response(status=204)

    receiver.answer = answer
    async with running(config(nats, receiver)) as sidecar:
        for payload in ("held", "bad", "failing", "late", "fine"):
            await sidecar.emit("counts", payload, uid=payload)
        await sidecar.emit("counts", "fine", uid="fine")
        await sidecar.try_emit("counts", "1", uid="ü")
        await until(lambda: _settled(sidecar, in_flight=1))
        found = await samples(sidecar)
        here = {"event": "counts", "actor": "print"}
        assert found["walnatsd_deliveries_in_flight"] == {labels(**here): 1}
        release.set()
        await until(lambda: _settled(sidecar, in_flight=0))
        found = await samples(sidecar)

    emits = {
        labels(event="counts", outcome="stored"): 5,
        labels(event="counts", outcome="duplicate"): 1,
        labels(event="counts", outcome="INVALID_UID"): 1,
    }
    assert found["walnatsd_emits_total"] == emits
    assert found["walnatsd_emit_duration_seconds_count"] == emits
    attempts = {
        labels(**here, outcome="acknowledged"): 3,
        labels(**here, outcome="rejected"): 1,
        labels(**here, outcome="failed"): 2,
        labels(**here, outcome="unavailable"): 1,
    }
    assert found["walnatsd_attempts_total"] == attempts
    assert found["walnatsd_attempt_duration_seconds_count"] == attempts
    assert found["walnatsd_stored_to_acknowledged_seconds_count"] == {labels(**here): 3}
    assert found["walnatsd_deliveries_in_flight"] == {labels(**here): 0}
    assert found["walnatsd_retries_total"] == {
        labels(**here, counts="true"): 1,
        labels(**here, counts="false"): 1,
    }
    assert found["walnatsd_dead_letters_total"] == {
        labels(**here, cause="rejected"): 1,
        labels(**here, cause="attempts"): 1,
    }
    assert found["walnatsd_nats_connected"] == {(): 1}
    assert found["walnatsd_nats_reconnects_total"] == {(): 0}
    for name in ("emit_duration", "attempt_duration", "stored_to_acknowledged"):
        assert all(value > 0 for value in found[f"walnatsd_{name}_seconds_sum"].values())


async def _settled(sidecar: Sidecar, *, in_flight: int) -> bool:
    found = await samples(sidecar)
    attempts = sum(found.get("walnatsd_attempts_total", {}).values())
    held = sum(found.get("walnatsd_deliveries_in_flight", {}).values())
    return attempts == 7 - in_flight and held == in_flight


async def test_callers_cannot_make_label_values_up(nats) -> None:
    async with running(config(nats)) as sidecar:
        before = await samples(sidecar)
        for number in range(30):
            await sidecar.try_emit(f"nobody-knows-{number}", "1")
        await sidecar.try_emit("bad..name", "1")
        await sidecar.try_emit("lone.some", "1", headers={"walnats-header-Made-Up": "x"})
        after = await samples(sidecar)
    assert {values for name in after for values in after[name]} - {values for name in before for values in before[name]}
    events = {dict(values)["event"] for name in after for values in after[name] if "event" in dict(values)}
    assert events == {"(unknown)", "counts", "lone.some"}
    assert after["walnatsd_emits_total"] == {
        labels(event="(unknown)", outcome="UNKNOWN_EVENT"): 30,
        labels(event="(unknown)", outcome="INVALID_NAME"): 1,
        labels(event="lone.some", outcome="stored"): 1,
    }


async def test_the_metrics_are_of_the_declared_names_only(nats) -> None:
    async with running(config(nats)) as sidecar:
        found = await samples(sidecar)
        _, kind, _ = await get(sidecar, sidecar.admin, "/metrics")
    assert kind == "text/plain"
    assert {name.split("_")[0] for name in found} == {"walnatsd", "process"}


async def test_the_number_of_tasks_follows_what_is_in_flight_and_goes_back(nats, receiver, tmp_path) -> None:
    release = asyncio.Event()

    async def hold(_received: Received) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    receiver.answer = hold
    async with process(tmp_path, config(nats, receiver)) as daemon:
        sidecar = daemon.sidecar
        before = (await sidecar.metrics())["walnatsd_tasks"]
        assert before > 0
        for number in range(3):
            await sidecar.emit("counts", str(number))
        await receiver.wait_for(3)
        assert (await sidecar.metrics())["walnatsd_tasks"] >= before + 3
        release.set()
        await until(lambda: _has_tasks(sidecar, before))


async def _has_tasks(sidecar: Sidecar, at_most: float) -> bool:
    return (await sidecar.metrics())["walnatsd_tasks"] <= at_most + 2  # a connection to the actor that stays open
