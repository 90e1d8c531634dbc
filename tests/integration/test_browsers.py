"""Pages of other sites can't use a browser on this machine to reach the daemon."""

import aiohttp
import pytest

from support.daemon import config_text, running
from support.grpc_calls import stubs
from support.streams import keep_messages, stored
from walnatsd.v1 import events_pb2

EVIL = [
    ({"Host": "evil.example:7521"}, "HOST", "'evil.example:7521'"),
    ({"Origin": "https://evil.example"}, "ORIGIN", "'https://evil.example'"),
    ({"Origin": "null"}, "ORIGIN", "'null'"),
]


async def test_a_cross_site_post_emits_nothing(nats) -> None:
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar:
        await keep_messages(nats)
        for headers, reason, named in EVIL:
            status, answer = await sidecar.try_emit("counts", "1", headers={"Content-Type": "text/plain"} | headers)
            assert (status, answer["reason"]) == (403, reason)
            assert named in answer["detail"]
            assert "allowed_hosts" in answer["detail"]
        metrics = await sidecar.metrics()
    assert await stored(nats) == []
    assert not any(name.startswith("walnatsd_emits_total") for name in metrics)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/metrics"), ("GET", "/readyz"), ("GET", "/livez"), ("GET", "/nonsense"), ("POST", "/admin/v1/reload")],
)
async def test_the_admin_address_answers_no_page_of_another_site(nats, method, path) -> None:
    async with running(config_text(nats.url)) as sidecar:
        for headers, reason, _ in EVIL:
            async with sidecar.session.request(method, f"http://{sidecar.admin}{path}", headers=headers) as response:
                assert response.status == 403
                assert (await response.json(content_type=None))["reason"] == reason


async def test_allowed_hosts_may_call_and_be_called(nats) -> None:
    parts = {"listen": "127.0.0.1:0", "allowed_hosts": ["warehouse.example"]}
    text = config_text(nats.url, events=[{"name": "counts"}], http=parts, admin=parts)
    headers = {"Host": "warehouse.example", "Origin": "https://warehouse.example"}
    async with running(text) as sidecar:
        assert (await sidecar.try_emit("counts", "1", headers=headers))[0] == 201
        assert (await sidecar.try_emit("counts", "1", headers={"Host": "evil.example"}))[0] == 403
        async with sidecar.session.get(f"http://{sidecar.admin}/livez", headers=headers) as response:
            assert response.status == 200


async def test_the_monitoring_address_may_be_called_by_any_name(nats) -> None:
    async with running(config_text(nats.url, monitoring={"listen": "127.0.0.1:0"})) as sidecar:
        address = sidecar.monitoring
        async with sidecar.session.get(f"http://{address}/metrics", headers={"Host": "10.1.2.3:7523"}) as response:
            assert response.status == 200
        async with sidecar.session.get(f"http://{address}/nonsense") as response:
            assert (response.status, (await response.json(content_type=None))["reason"]) == (404, "UNKNOWN_PATH")


async def test_a_page_can_not_speak_with_the_grpc_address(nats) -> None:
    """Without TLS a browser speaks HTTP/1.1 alone, which may carry all bytes of a call in its body."""
    async with running(config_text(nats.url, events=[{"name": "counts"}])) as sidecar, stubs(sidecar.grpc) as stub:
        await keep_messages(nats)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        for url, body in (
            (f"http://{sidecar.grpc}/walnatsd.v1.Events/Emit", b"1"),
            (f"http://{sidecar.grpc}/", preface),
        ):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await sidecar.session.post(url, data=body, headers={"Content-Type": "application/grpc"})
        assert await stored(nats) == []
        await stub.events.Emit(events_pb2.EmitRequest(event="counts", payload=b"1"))
        assert len(await stored(nats)) == 1
