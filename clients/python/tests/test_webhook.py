"""`asgi_app` on a real HTTP server, called as the sidecar calls it (contract, section 5)."""

import asyncio
import base64
import functools
import hashlib
import hmac
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

import walnatsd_client as walnatsd

COUNT = walnatsd.Event("counts", int)
NOW = 1_700_000_000.0
KEYS = [bytes(range(24)), bytes(range(64))]
SECRETS = ["whsec_" + base64.b64encode(key).decode() for key in KEYS]
App = Callable[..., object]


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, on a server that runs until the block ends; it insists on the lifespan protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", ws="none", log_config=None))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            try:
                async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
                    yield client
            finally:
                server.should_exit = True


def delivery_headers(event: str = "counts", actor: str = "act") -> dict[str, str]:
    return {
        "walnats-event": event,
        "walnats-actor": actor,
        "walnats-uid": "one",
        "walnats-sequence": "7",
        "walnats-attempt": "2",
        "walnats-trace": "trace",
        "content-type": "application/json",
    }


async def deliver(
    actor: walnatsd.Actor[object] | walnatsd.Actor[int] | walnatsd.Actor[bytes],
    payload: bytes = b"1",
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    async with serving(walnatsd.asgi_app(actor)) as client:
        return await client.post("/any/path", content=payload, headers=headers or delivery_headers())


def act(handler: Callable[[int], object]) -> walnatsd.Actor[int]:
    return walnatsd.Actor("act", COUNT, handler)


async def test_an_async_handler_gets_the_message_and_success_is_an_empty_204() -> None:
    seen: list[int] = []

    async def handle(count: int) -> None:
        seen.append(count)

    answer = await deliver(act(handle))
    assert (answer.status_code, answer.content, seen) == (204, b"", [1])


async def test_a_sync_handler_runs_in_a_thread_and_knows_its_delivery() -> None:
    seen: list[tuple[int, int, walnatsd.Delivery]] = []

    def handle(count: int) -> None:
        seen.append((count, threading.get_ident(), walnatsd.current_delivery()))

    assert (await deliver(act(handle))).status_code == 204
    [(count, thread, delivery)] = seen
    assert (count, delivery.uid) == (1, "one")
    assert thread != threading.get_ident()


class AsyncCallable:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    async def __call__(self, count: int) -> None:
        self.seen.append((count, threading.get_ident()))


def wrap_in_sync(handler: AsyncCallable) -> App:
    def handle(count: int) -> Awaitable[None]:
        return handler(count)

    return handle


@pytest.mark.parametrize("wrap", [lambda handler: handler, functools.partial, wrap_in_sync])
async def test_whatever_returns_an_awaitable_is_awaited_on_the_loop(wrap: Callable[[AsyncCallable], App]) -> None:
    handler = AsyncCallable()
    assert (await deliver(act(wrap(handler)))).status_code == 204
    assert handler.seen == [(1, threading.get_ident())]


async def test_a_handler_can_ask_for_the_facts_of_its_delivery() -> None:
    seen: list[walnatsd.Delivery] = []

    async def handle(_: int) -> None:
        seen.append(walnatsd.current_delivery())

    headers = httpx.Headers(delivery_headers() | {"ce-subject": "s", "X-Own": "ä"}, encoding="utf-8")
    assert (await deliver(act(handle), headers=headers)).status_code == 204
    [delivery] = seen
    assert (delivery.event, delivery.actor, delivery.uid) == ("counts", "act", "one")
    assert (delivery.sequence, delivery.attempt, delivery.trace_id) == (7, 2, "trace")
    assert (delivery.headers["ce-subject"], delivery.headers["x-own"]) == ("s", "ä")
    with pytest.raises(LookupError):
        walnatsd.current_delivery()


async def test_a_call_by_hand_may_leave_out_all_but_the_names() -> None:
    seen: list[walnatsd.Delivery] = []

    async def handle(_: int) -> None:
        seen.append(walnatsd.current_delivery())

    headers = {"walnats-event": "counts", "walnats-actor": "act", "walnats-sequence": "²"}
    assert (await deliver(act(handle), headers=httpx.Headers(headers, encoding="utf-8"))).status_code == 204
    assert (seen[0].uid, seen[0].sequence, seen[0].attempt) == ("", 0, 1)


async def test_concurrent_deliveries_do_not_see_each_other() -> None:
    both = asyncio.Barrier(2)
    seen: set[str] = set()

    async def handle(_: int) -> None:
        await both.wait()
        seen.add(walnatsd.current_delivery().uid)

    async with serving(walnatsd.asgi_app(act(handle))) as client, asyncio.TaskGroup() as tasks:
        for uid in ("one", "two"):
            headers = delivery_headers() | {"walnats-uid": uid}
            tasks.create_task(client.post("/", content=b"1", headers=headers))
    assert seen == {"one", "two"}


def raising(error: BaseException) -> walnatsd.Actor[int]:
    def handle(_: int) -> None:
        raise error

    return act(handle)


async def test_reject_is_a_422_with_the_reason() -> None:
    answer = await deliver(raising(walnatsd.Reject("no such customer")))
    assert (answer.status_code, answer.text) == (422, "no such customer")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(("after", "header"), [(60, "60"), (0.2, "1"), (0, "0"), (None, None)])
async def test_retry_is_a_500_with_retry_after_in_whole_seconds(after: float | None, header: str | None) -> None:
    answer = await deliver(raising(walnatsd.Retry(after, "not yet")))
    assert (answer.status_code, answer.text, answer.headers.get("retry-after")) == (500, "not yet", header)


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf")])
def test_a_retry_needs_a_wait_that_ends(after: float) -> None:
    with pytest.raises(ValueError, match="after"):
        walnatsd.Retry(after)


@pytest.mark.parametrize("error", [RuntimeError("secret"), ValueError("secret"), StopIteration("secret")])
async def test_any_other_exception_is_a_500_that_is_logged_and_not_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await deliver(raising(error))
    assert answer.status_code == 500
    assert "retry-after" not in answer.headers
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    assert "actor act failed: event counts, uid one, sequence 7, attempt 2" in caplog.text


@pytest.mark.parametrize("payload", [b"", b"{", b'"one"', b"1.5", b"\xff", b"[" * 100_000])
async def test_a_payload_that_is_not_of_the_schema_is_a_422_and_the_handler_does_not_see_it(payload: bytes) -> None:
    seen: list[int] = []
    answer = await deliver(act(seen.append), payload)
    assert (answer.status_code, seen) == (422, [])
    assert answer.text.startswith("the payload is not of the event's schema")


async def test_a_serializer_that_breaks_makes_no_dead_letter() -> None:
    @dataclass(frozen=True)
    class Broken:
        content_type: str = "application/json"

        def encode(self, message: int, /) -> bytes:
            raise NotImplementedError

        def decode(self, payload: bytes, /) -> int:
            raise OSError("the key server is away")

    answer = await deliver(walnatsd.Actor("act", walnatsd.Event("counts", int, serializer=Broken()), print))
    assert answer.status_code == 500


@pytest.mark.parametrize("names", [("counts", "other"), ("others", "act"), ("", "")])
async def test_an_unknown_actor_is_a_404_so_that_no_message_is_given_up(names: tuple[str, str]) -> None:
    assert (await deliver(act(print), headers=delivery_headers(*names))).status_code == 404


async def test_a_batch_is_a_404_so_that_a_wrong_declaration_gives_up_no_message() -> None:
    actor = walnatsd.Actor("act", walnatsd.Event("counts", list), print)
    headers = delivery_headers() | {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
    assert (await deliver(actor, b"[]", headers)).status_code == 404


async def test_actors_of_one_app_are_told_apart_by_event_and_name() -> None:
    seen: list[object] = []
    words = walnatsd.Event("words", str)
    app = walnatsd.asgi_app(
        act(lambda n: seen.append(("counts/act", n))),
        walnatsd.Actor("other", COUNT, lambda n: seen.append(("counts/other", n))),
        walnatsd.Actor("act", words, lambda text: seen.append(("words/act", text))),
    )
    async with serving(app) as client:
        await client.post("/", content=b'"a"', headers=delivery_headers("words", "act"))
        await client.post("/", content=b"2", headers=delivery_headers("counts", "other"))
    assert seen == [("words/act", "a"), ("counts/other", 2)]


def test_two_actors_of_one_name_and_event_are_refused() -> None:
    with pytest.raises(ValueError, match="act on the event counts"):
        walnatsd.asgi_app(act(print), act(repr))


async def test_other_methods_are_a_405() -> None:
    async with serving(walnatsd.asgi_app(act(print))) as client:
        answer = await client.get("/", headers=delivery_headers())
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_body_over_the_limit_is_a_413_and_one_at_the_limit_is_not() -> None:
    app = walnatsd.asgi_app(act(print), max_body_bytes=3)
    async with serving(app) as client:
        statuses = [
            (await client.post("/", content=body, headers=delivery_headers())).status_code for body in (b"100", b"1000")
        ]
    assert statuses == [204, 413]


async def test_a_caller_that_hangs_up_within_the_body_is_not_handled() -> None:
    seen: list[int] = []
    messages = iter(
        [{"type": "http.request", "body": b"1", "more_body": True}, {"type": "http.disconnect"}],
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    async def send(_: object) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "headers": []}
    await walnatsd.asgi_app(act(seen.append))(scope, receive, send)
    assert seen == []


async def test_websockets_are_refused() -> None:
    async def nothing(*_: object) -> dict[str, object]:
        raise AssertionError

    with pytest.raises(ValueError, match="websocket"):
        await walnatsd.asgi_app(act(print))({"type": "websocket"}, nothing, nothing)


def sign(payload: bytes, *keys: bytes, message_id: str = "msg_1", timestamp: float = NOW) -> dict[str, str]:
    signed = message_id.encode() + b"." + str(int(timestamp)).encode() + b"." + payload
    digests = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(timestamp)),
        "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
    }


BINARY = bytes(range(256))
STRANGER = b"x" * 24


@pytest.mark.parametrize(
    ("signature", "status"),
    [
        pytest.param(sign(BINARY, KEYS[0]), 204, id="first key"),
        pytest.param(sign(BINARY, KEYS[1]), 204, id="second key"),
        pytest.param(sign(BINARY, STRANGER, KEYS[1]), 204, id="one of several signatures"),
        pytest.param(sign(BINARY, KEYS[0], timestamp=NOW - 300), 204, id="just young enough"),
        pytest.param(sign(BINARY, KEYS[0], timestamp=NOW - 301), 401, id="too old"),
        pytest.param(sign(BINARY, KEYS[0], timestamp=NOW + 301), 401, id="from the future"),
        pytest.param(sign(BINARY, STRANGER), 401, id="another key"),
        pytest.param(sign(b"other", KEYS[0]), 401, id="another body"),
        pytest.param(sign(BINARY, KEYS[0]) | {"webhook-id": "msg_2"}, 401, id="another id"),
        pytest.param(sign(BINARY, KEYS[0]) | {"webhook-timestamp": str(int(NOW) + 1)}, 401, id="another time"),
        pytest.param(sign(BINARY, KEYS[0]) | {"webhook-timestamp": "9" * 5000}, 401, id="a time like a bomb"),
        pytest.param(sign(BINARY, KEYS[0]) | {"webhook-timestamp": "now"}, 401, id="no time"),
        pytest.param(sign(BINARY), 401, id="no signature"),
        pytest.param(sign(BINARY, KEYS[0]) | {"webhook-signature": "v1,"}, 401, id="empty signature"),
        pytest.param({}, 401, id="no headers"),
    ],
)
async def test_only_a_fresh_signature_of_a_live_secret_over_the_raw_body_is_accepted(
    signature: dict[str, str], status: int
) -> None:
    actor = walnatsd.Actor("act", walnatsd.Event("counts", bytes), bytes.hex)
    app = walnatsd.asgi_app(actor, secrets=SECRETS, now=lambda: NOW)
    async with serving(app) as client:
        answer = await client.post("/", content=BINARY, headers=delivery_headers() | signature)
    assert answer.status_code == status


async def test_a_stranger_does_not_learn_which_actors_there_are() -> None:
    async with serving(walnatsd.asgi_app(act(print), secrets=SECRETS)) as client:
        answers = [
            await client.post("/", content=b"1", headers=delivery_headers(actor=name)) for name in ("act", "other")
        ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].text == answers[1].text


@pytest.mark.parametrize(
    "secret", ["whsec_", "whsec_???", "whsec_ä", "whsec_" + base64.b64encode(b"short").decode(), ""]
)
def test_a_malformed_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="webhook secret") as caught:
        walnatsd.asgi_app(act(print), secrets=[secret])
    assert caught.value.__cause__ is None
    assert not secret or secret not in str(caught.value)


async def test_the_act_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    [example] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "asgi_app" in block]
    names: dict[str, App] = {}
    exec(example.partition("\nasync def main")[0], names)
    async with serving(names["app"]) as client:
        answer = await client.post("/", content=b"1", headers=delivery_headers(actor="show"))
    assert answer.status_code == 204
    assert capsys.readouterr().out == "1 one\n"
