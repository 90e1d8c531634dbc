"""Tokens: each call is open to the scopes that the table says, over gRPC, HTTP and on the admin address, and to nobody else."""

import asyncio
import json
import signal

import aiohttp
import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from openapi_spec_validator import OpenAPIV31SpecValidator

from support.access import SCOPES, bearer, grpc_reason, guarded_text, http_reason, metadata, token_of
from support.daemon import config_text, process, running
from support.described import read_description
from support.grpc_calls import refused, stubs
from support.raw_http import send
from support.streams import keep_messages, stored
from support.waiting import until
from walnatsd.api.access import Access
from walnatsd.config.load import load_text
from walnatsd.observe.metrics import Metrics
from walnatsd.servers.door import application
from walnatsd.servers.grpc import MAX_MESSAGE_BYTES
from walnatsd.servers.web import serve_web
from walnatsd.v1 import actors_pb2, events_pb2

EMIT = events_pb2.EmitRequest(event="counts", payload=b"1")
METHODS = {
    "walnatsd.v1.Events/Register": (events_pb2.RegisterEventsRequest(), {"emit", "act"}),
    "walnatsd.v1.Events/Emit": (EMIT, {"emit"}),
    "walnatsd.v1.Events/EmitBatch": (events_pb2.EmitBatchRequest(items=[EMIT]), {"emit"}),
    "walnatsd.v1.Events/EmitStream": ([EMIT], {"emit"}),
    "walnatsd.v1.Events/Call": (events_pb2.CallRequest(emit=EMIT), {"emit"}),
    "walnatsd.v1.Events/Monitor": (events_pb2.MonitorRequest(events=["unknown"]), {"act"}),
    "walnatsd.v1.Events/ListScheduled": (events_pb2.ListScheduledRequest(event="counts"), {"emit"}),
    "walnatsd.v1.Events/CancelScheduled": (events_pb2.CancelScheduledRequest(event="counts", uid="u"), {"emit"}),
    "walnatsd.v1.Actors/Register": (actors_pb2.RegisterActorsRequest(), {"act"}),
    "walnatsd.v1.Actors/Listen": (
        [actors_pb2.ListenRequest(subscribe=actors_pb2.ListenRequest.Subscribe(event="counts", actor="none"))],
        {"act"},
    ),
}
HTTP = {
    "emit": {"emit"}, "emit-batch": {"emit"}, "request": {"emit"}, "monitor": {"act"}, "list-scheduled": {"emit"},
    "cancel-scheduled": {"emit"}, "describe": {"emit", "act", "admin"},
}  # fmt: skip
OPEN = {"livez", "readyz", "livez-head", "readyz-head"}
OF_ADMIN = {"describe": {"emit", "act", "admin"}}


def test_every_method_is_tried_here() -> None:
    services = (*events_pb2.DESCRIPTOR.services_by_name.values(), *actors_pb2.DESCRIPTOR.services_by_name.values())
    assert set(METHODS) == {f"{service.full_name}/{method.name}" for service in services for method in service.methods}


async def test_each_method_of_grpc_is_open_to_its_scopes_and_to_nobody_else(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, stubs(sidecar.grpc) as stub:
        for path, (request, scopes) in METHODS.items():
            service, method = path.split("/")
            call = getattr(stub.events if service.endswith("Events") else stub.actors, method)

            def made(with_metadata: object, call=call, request=request) -> grpc.aio.Call:
                return call(iter(request) if isinstance(request, list) else request, metadata=with_metadata)

            assert await grpc_reason(made(None)) == "TOKEN", path
            assert await grpc_reason(made(metadata("wrong"))) == "TOKEN", path
            for scope in SCOPES:
                expected = "" if scope in scopes else "SCOPE"
                assert await grpc_reason(made(metadata(token_of(scope)))) == expected, (path, scope)


@pytest.mark.parametrize("method", ["Emit", "EmitBatch", "Monitor", "EmitStream"])
async def test_over_grpc_nothing_of_a_request_is_read_before_its_token_is_known(nats, tmp_path, method) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, stubs(sidecar.grpc) as stub:
        too_large = bytes(MAX_MESSAGE_BYTES + 1)  # whoever reads it answers so; nor is it any message
        path = f"/walnatsd.v1.Events/{method}"
        call = stub.channel.stream_unary(path) if method == "EmitStream" else stub.channel.unary_unary(path)

        async def code(token: str) -> grpc.StatusCode:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(iter([too_large]) if method == "EmitStream" else too_large, metadata=metadata(token))
            return error.value.code()

        assert await code("wrong") is grpc.StatusCode.UNAUTHENTICATED
        assert await code(token_of("admin")) is grpc.StatusCode.PERMISSION_DENIED
        assert await code(token_of("act" if method == "Monitor" else "emit")) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_stream_that_says_nothing_is_refused_at_once_without_a_token(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, stubs(sidecar.grpc) as stub:
        for call in (stub.events.EmitStream(), stub.actors.Listen()):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_over_http_a_body_is_not_waited_for_without_a_token(nats, tmp_path) -> None:
    head = b"POST /v1/events/counts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
    async with running(guarded_text(nats.url, tmp_path), file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        for extra in (b"", b"Authorization: Bearer wrong\r\n"):
            status, _, body = await send(sidecar.http, head + extra + b"\r\n")
            assert (status, json.loads(body)["reason"]) == (401, "TOKEN")


async def test_each_call_of_http_is_open_to_its_scopes_and_to_nobody_else(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        for address, table in (
            (sidecar.http, HTTP), (sidecar.admin, OF_ADMIN),
        ):  # fmt: skip
            description = await read_description(sidecar, address, token=token_of("emit"))
            OpenAPIV31SpecValidator(description.data).validate()
            for path, methods in description.data["paths"].items():
                for method, operation in methods.items():
                    name = operation["operationId"]
                    url = f"http://{address}{path.replace('{event}', 'nope').replace('{', '').replace('}', '')}"
                    scopes = set(SCOPES) if name in OPEN else table.get(name.removesuffix("-head"), {"admin"})
                    told = await http_reason(sidecar, method, url, {})
                    if name in OPEN:
                        assert told == (200, "", ""), name
                        assert "security" not in operation, name
                        continue
                    assert told == (401, "TOKEN", 'Bearer realm="walnatsd"'), name
                    assert (await http_reason(sidecar, method, url, bearer("wrong")))[:2] == (401, "TOKEN"), name
                    assert operation["security"] == [{"token": [scope]} for scope in sorted(scopes)]
                    for scope in SCOPES:
                        status, reason, challenge = await http_reason(sidecar, method, url, bearer(token_of(scope)))
                        if scope in scopes:
                            assert (status not in (401, 403), reason, challenge) == (True, "", ""), (name, scope)
                        else:
                            assert (status, reason) == (403, "SCOPE"), (name, scope)
                            assert 'error="insufficient_scope"' in challenge


async def test_a_refused_call_says_what_to_do_and_does_nothing(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, stubs(sidecar.grpc) as stub:
        await keep_messages(nats)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.events.Emit(EMIT)
        told = refused(error.value)
        assert (told.code, told.reason) == ("UNAUTHENTICATED", "TOKEN")
        assert "authorization: Bearer" in told.message
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.events.Emit(EMIT, metadata=metadata(token_of("act")))
        told = refused(error.value)
        assert (told.code, told.reason) == ("PERMISSION_DENIED", "SCOPE")
        assert "lacks the scope emit; it has act" in told.message
        status, problem = await sidecar.try_emit("counts", "1", headers=bearer(token_of("admin")), uid="u")
        assert (status, problem["reason"], problem["uid"]) == (403, "SCOPE", "")
        assert "lacks the scope emit; it has admin" in problem["detail"]
        assert (await sidecar.try_emit("counts", "1", headers={"Authorization": "Basic eA=="}))[0] == 401
        async with sidecar.session.get(
            f"http://{sidecar.admin}/metrics", headers=bearer(token_of("admin"))
        ) as response:
            told_by_metrics = await response.text()
        assert 'walnatsd_access_refused_total{reason="TOKEN"} 2.0' in told_by_metrics
        assert 'walnatsd_access_refused_total{reason="SCOPE"} 2.0' in told_by_metrics
        assert await stored(nats) == []
        assert (await sidecar.try_emit("counts", "1", headers={"Authorization": f"bearer  {token_of('emit')}"}))[
            0
        ] == 201
        [message] = await stored(nats)
        assert token_of("emit") not in str(message)  # it is not one of the message's headers


async def test_health_needs_no_token_and_reflection_takes_any(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path, monitoring={"listen": "127.0.0.1:0"})
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await http_reason(sidecar, "GET", f"http://{sidecar.monitoring}{path}", {}))[0] == 200
        async with grpc.aio.insecure_channel(sidecar.grpc) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            assert (
                await health.Check(health_pb2.HealthCheckRequest())
            ).status == health_pb2.HealthCheckResponse.SERVING
            watching = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
            watching.cancel()
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
            assert await grpc_reason(reflection.ServerReflectionInfo(iter(asked))) == "TOKEN"
            for scope in SCOPES:
                call = reflection.ServerReflectionInfo(iter(asked), metadata=metadata(token_of(scope)))
                assert (await call.read()).HasField("list_services_response")
                call.cancel()


async def test_a_token_does_not_make_up_for_a_wrong_host_or_origin(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar:
        for address, path, scope in ((sidecar.http, "/openapi.json", "emit"), (sidecar.admin, "/metrics", "admin")):
            for headers, reason in (({"Host": "evil.example"}, "HOST"), ({"Origin": "https://evil.example"}, "ORIGIN")):
                url = f"http://{address}{path}"
                told = await http_reason(sidecar, "GET", url, headers | bearer(token_of(scope)))
                assert told == (403, reason, "")


async def test_tokens_are_asked_for_on_unix_sockets_too(nats, tmp_path) -> None:
    socket = tmp_path / "grpc.sock"
    text = guarded_text(nats.url, tmp_path, grpc={"listen": f"unix:{socket}"})
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, stubs(sidecar.grpc) as stub:
        assert await grpc_reason(stub.events.Emit(EMIT)) == "TOKEN"
        assert (await stub.events.Emit(EMIT, metadata=metadata(token_of("emit")))).sequence


async def test_without_tokens_none_is_looked_at(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, stubs(sidecar.grpc) as stub:
        await keep_messages(nats)
        assert (await stub.events.Emit(EMIT, metadata=metadata("anything"))).sequence == 1
        assert (await sidecar.try_emit("counts", "1", headers=bearer("anything")))[0] == 201


@pytest.mark.parametrize("within", ["", "/part"])
async def test_what_nobody_has_named_is_for_administrators(tmp_path, within) -> None:
    """Forgetting to decide about a path shuts it."""
    (tmp_path / "a").write_text("sesame")
    (tmp_path / "e").write_text("simsim")
    tokens = "[{token: {file: a}, scopes: [admin]}, {token: {file: e}, scopes: [emit, act]}]"
    loaded = load_text(f"auth: {{tokens: {tokens}}}", file=str(tmp_path / "walnatsd.yaml"), environ={})

    async def page(_request: web.Request) -> web.Response:
        return web.Response()

    app = application(None, Access(loaded, Metrics()))
    if within:
        part = web.Application()
        part.router.add_get("/page", page)
        app.add_subapp(within, part)
    else:
        app.router.add_get("/page", page)
    async with (
        serve_web("admin", "127.0.0.1:0", app, Metrics(), stop_within_s=lambda: 1.0) as address,
        aiohttp.ClientSession() as session,
    ):
        for headers, status in (({}, 401), (bearer("sesame"), 200), (bearer("simsim"), 403)):
            async with session.get(f"http://{address}{within}/page", headers=headers) as response:
                assert response.status == status
        async with session.get(f"http://{address}{within}/nothing") as response:
            assert response.status == 404


# ---- rotation


async def reload(sidecar, token: str) -> tuple[int, dict]:
    url = f"http://{sidecar.admin}/admin/v1/reload"
    async with sidecar.session.post(url, headers=bearer(token)) as response:
        return response.status, json.loads(await response.read())


async def emits_with(sidecar, stub, token: str) -> bool:
    reason = await grpc_reason(stub.events.Emit(EMIT, metadata=metadata(token)))
    status, _ = await sidecar.try_emit("counts", "1", headers=bearer(token))
    assert (reason == "") == (status in (200, 201))
    return reason == ""


async def test_tokens_are_read_again_on_reload_so_that_they_can_be_replaced_without_a_gap(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(guarded_text(nats.url, tmp_path))
    async with running(file.read_text(), file=str(file)) as sidecar, stubs(sidecar.grpc) as stub:
        old, admin = token_of("emit"), token_of("admin")
        assert (await reload(sidecar, admin)) == (200, {"added": [], "changed": [], "removed": []})
        (tmp_path / "next").write_text("next-one")
        both = json.dumps([{"token": {"file": name}, "scopes": [name]} for name in SCOPES][:-1])
        with_next = (
            f"[{{token: {{file: next}}, scopes: [emit]}}, {{token: {{file: admin}}, scopes: [admin]}}, {both[1:]}"
        )
        before = file.read_text()
        file.write_text(before.partition("auth:")[0] + f"auth: {{tokens: {with_next}}}\n" + _after_auth(before))
        assert not await emits_with(sidecar, stub, "next-one")
        assert (await reload(sidecar, admin))[1]["changed"] == ["auth.tokens"]
        assert await emits_with(sidecar, stub, "next-one")
        assert await emits_with(sidecar, stub, old)
        (tmp_path / "emit").write_text("another")  # replaced in its file
        assert (await reload(sidecar, admin))[1]["changed"] == ["auth.tokens"]
        assert not await emits_with(sidecar, stub, old)
        assert await emits_with(sidecar, stub, "another")
        (tmp_path / "emit").write_text("")
        status, problem = await reload(sidecar, admin)
        assert (status, problem["reason"]) == (400, "INVALID_CONFIG")
        assert await emits_with(sidecar, stub, "another")  # a bad file changes nothing


def _after_auth(text: str) -> str:
    """What follows the section auth in YAML as `config_text` writes it."""
    rest = text.partition("auth:\n")[2].splitlines(keepends=True)
    first = next(index for index, line in enumerate(rest) if not line.startswith((" ", "-")))
    return "".join(rest[first:])


async def test_tokens_can_not_come_or_go_altogether_while_the_daemon_runs(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(config_text(nats.url, events=[{"name": "counts"}]))
    async with running(file.read_text(), file=str(file)) as sidecar:
        file.write_text(guarded_text(nats.url, tmp_path))
        status, problem = await reload(sidecar, "")
        assert status == 400
        assert "whether there are auth.tokens can't change while the daemon runs; restart it" in problem["detail"]
    async with running(file.read_text(), file=str(file)) as sidecar:
        file.write_text(config_text(nats.url, events=[{"name": "counts"}]))
        assert (await reload(sidecar, token_of("admin")))[0] == 400
        assert (await sidecar.try_emit("counts", "1"))[0] == 401


async def test_a_reload_that_would_open_an_address_to_everybody_is_refused(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    file.write_text(guarded_text(nats.url, tmp_path))
    async with running(file.read_text(), file=str(file)) as sidecar:
        file.write_text(config_text(nats.url, events=[{"name": "counts"}], http={"listen": "0.0.0.0:7521"}))
        status, problem = await reload(sidecar, token_of("admin"))
        assert status == 400
        assert "0.0.0.0:7521 can be reached from other machines and nothing asks who calls" in problem["detail"]


async def test_a_stream_ends_when_its_token_is_taken_away_and_others_go_on(nats, tmp_path) -> None:
    file = tmp_path / "walnatsd.yaml"
    actors = [{"name": "print", "event": "counts"}]
    file.write_text(guarded_text(nats.url, tmp_path, actors=actors))
    async with running(file.read_text(), file=str(file)) as sidecar, stubs(sidecar.grpc) as stub:
        act, emit = metadata(token_of("act")), metadata(token_of("emit"))
        subscribe = actors_pb2.ListenRequest.Subscribe(event="counts", actor="print")
        listening = stub.actors.Listen(metadata=act)
        await listening.write(actors_pb2.ListenRequest(subscribe=subscribe))
        await listening.read()  # a heartbeat: it has begun
        watching = stub.events.Monitor(events_pb2.MonitorRequest(events=["counts"]), metadata=act)
        await watching.initial_metadata()
        url = f"http://{sidecar.http}/v1/events/counts/monitor"
        emitting = stub.events.EmitStream(metadata=emit)
        await emitting.write(EMIT)
        assert (await emitting.read()).ok.stream == "counts"
        async with sidecar.session.get(url, headers=bearer(token_of("act"))) as feed:
            await feed.content.readany()
            (tmp_path / "act").write_text("another")
            assert (await reload(sidecar, token_of("admin")))[0] == 200
            async with asyncio.timeout(10):
                for call in (listening, watching):
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        while True:
                            await call.read()
                    told = refused(error.value)
                    assert (told.code, told.reason) == ("UNAUTHENTICATED", "TOKEN")
                    assert "it is wrong, or was replaced" in told.message
                assert (
                    b'event: end\ndata: {"type":"about:blank","title":"no token that is valid here"'
                    in await feed.read()
                )
        await emitting.write(EMIT)
        assert (await emitting.read()).ok.stream == "counts"
        await emitting.done_writing()
        assert await emitting.read() is grpc.aio.EOF


async def test_a_hangup_reads_tokens_again(nats, tmp_path) -> None:
    text = guarded_text(nats.url, tmp_path)
    async with process(tmp_path, text) as daemon:
        assert daemon.sidecar is not None
        (tmp_path / "emit").write_text("another")
        daemon.send_signal(signal.SIGHUP)

        async def is_taken() -> bool:
            assert daemon.sidecar is not None
            return (await daemon.sidecar.try_emit("counts", "1", headers=bearer("another")))[0] in (200, 201)

        await until(is_taken)
        assert not daemon.said("another")
