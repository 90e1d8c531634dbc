"""How webhooks get their connections: names, addresses, which of them."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.certificates import Authority
from walnatsd.webhook import dialer
from walnatsd.webhook.dialer import Dialer, Origin
from walnatsd.webhook.errors import NotConnectedError
from walnatsd.webhook.http_client import parsed

NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Names:
    """What the system's resolver says, and how often it was asked."""

    def __init__(self) -> None:
        self.addresses: list[str] = ["127.0.0.1"]
        self.error: Exception | None = None
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def look_up(self, _host: str, port: int, **_options: Any) -> list[Any]:
        self.asked += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in address], socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.look_up)
    return names


@pytest.fixture
async def dialing() -> AsyncIterator[Dialer]:
    dialing = Dialer()
    yield dialing
    await dialing.close()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Somebody listens there on 127.0.0.1."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def actor(port: int, host: str = "actor.invalid") -> Origin:
    return Origin(is_tls=False, host=host, port=port)


async def dial(dialing: Dialer, origin: Origin) -> None:
    (await dialing.dial(origin, None)).abort()


async def test_a_name_is_looked_up_once_for_all_who_ask_and_then_remembered(dialing, names, port) -> None:
    names.may_answer.clear()
    asking = [asyncio.create_task(dial(dialing, actor(port))) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    names.may_answer.set()
    await asyncio.gather(*asking)
    await dial(dialing, actor(port))
    assert names.asked == 1


async def test_who_gives_up_does_not_end_the_lookup_of_others(dialing, names, port) -> None:
    names.may_answer.clear()
    first, second = (asyncio.create_task(dial(dialing, actor(port))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    names.may_answer.set()
    await second
    assert names.asked == 1


async def test_a_name_is_looked_up_again_after_a_while(dialing, names, port, monkeypatch) -> None:
    monkeypatch.setattr(dialer, "DNS_TTL_S", -1.0)
    await dial(dialing, actor(port))
    await dial(dialing, actor(port))
    assert names.asked == 2


@pytest.mark.parametrize("error", [NO_NAME, UnicodeError("label too long")])
async def test_a_lookup_that_fails_is_told_and_not_remembered(dialing, names, port, error) -> None:
    names.error = error
    with pytest.raises(NotConnectedError if error is NO_NAME else ValueError, match=str(error.args[-1])):
        await dial(dialing, actor(port))
    names.error = None
    await dial(dialing, actor(port))


async def test_the_addresses_of_a_name_take_turns(dialing, names) -> None:
    names.addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    first = [(await dialing._addresses("actor.invalid", 1))[0][4][0] for _ in range(4)]
    assert first == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]


async def test_an_address_that_refuses_does_not_matter_where_another_one_does_not(dialing, names, port) -> None:
    names.addresses = ["::1", "127.0.0.9", "127.0.0.1"]
    await dial(dialing, actor(port))


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"])
async def test_a_name_of_a_forbidden_address_is_refused_with_the_reason(dialing, names, port, address) -> None:
    names.addresses = [address]
    with pytest.raises(NotConnectedError, match=f"actor.invalid:{port}: {address} is .*; webhooks there are refused"):
        await dial(dialing, actor(port))


async def test_a_forbidden_address_in_the_url_is_refused_without_a_lookup(dialing, names) -> None:
    with pytest.raises(NotConnectedError, match=r"^169\.254\.169\.254:80: .*refused"):
        await dial(dialing, actor(80, "169.254.169.254"))
    with pytest.raises(NotConnectedError, match=r"^\[fe80::1\]:80: .*refused"):
        await dial(dialing, actor(80, "fe80::1"))
    assert names.asked == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "127.0.0.256", "1.2.3.4.5"])
async def test_a_shorthand_of_an_address_is_not_guessed_at(dialing, names, host) -> None:
    with pytest.raises(ValueError, match=f"{host} is not a canonical IPv4 address"):
        await dial(dialing, actor(80, host))
    assert names.asked == 0


async def test_with_tls_the_address_that_speaks_for_the_name_is_found(dialing, names, tmp_path) -> None:
    """Behind one of the addresses of a name may be a machine that is not what it was."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    servers, port = [], 0
    for address, whose in (("127.0.0.1", other), ("127.0.0.2", authority)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        whose.trusted.issue_cert("actor.invalid").configure_cert(context)
        servers.append(await asyncio.start_server(lambda _, writer: writer.close(), address, port, ssl=context))
        port = servers[0].sockets[0].getsockname()[1]
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    origin = Origin(is_tls=True, host="actor.invalid", port=port)
    (await dialing.dial(origin, authority.client())).abort()
    names.addresses = ["127.0.0.1"]
    dialing._found.clear()
    with pytest.raises(NotConnectedError, match="CERTIFICATE_VERIFY_FAILED"):
        await dialing.dial(origin, authority.client())
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("url", "origin", "authority", "target"),
    [
        ("http://actor", (False, "actor", 80), "actor", "/"),
        ("https://actor/a?b=c#d", (True, "actor", 443), "actor", "/a?b=c"),
        ("http://Actor.:8080/a%20b/ü?x=%26", (False, "actor.", 8080), "actor:8080", "/a%20b/%C3%BC?x=%26"),
        ("https://[::1]:8443/", (True, "::1", 8443), "[::1]:8443", "/"),
        ("http://bücher.example/", (False, "xn--bcher-kva.example", 80), "xn--bcher-kva.example", "/"),
    ],
)
def test_a_url_becomes_what_a_request_says(url, origin, authority, target) -> None:
    assert parsed(url) == (origin, authority, target)
