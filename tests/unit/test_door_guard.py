"""Who may call the HTTP addresses from a browser: Host and Origin."""

import pytest

from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.door import Guard

LOOPBACK = ["127.0.0.1:7521", "[::1]:7521", "localhost:0"]
ELSEWHERE = ["0.0.0.0:7521", "192.0.2.1:7521", "unix:/run/walnatsd/http.sock"]


def verdict(guard: Guard, host: str | None, origin: str | None = None) -> Reason | None:
    try:
        guard.check([host] if host is not None else [], [origin] if origin is not None else [])
    except Refusal as refusal:
        return refusal.reason
    return None


@pytest.mark.parametrize("listen", LOOPBACK)
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:7521",
        "localhost.:80",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.3.2.1:7521",
        "[::1]",
        "[::1]:7521",
    ],
)
def test_on_loopback_it_may_be_called_by_loopback_names_with_any_port(listen, host) -> None:
    assert verdict(Guard(listen, []), host) is None
    assert verdict(Guard(listen, []), host, f"http://{host}") is None
    assert verdict(Guard(listen, []), "localhost:7521", f"https://{host}") is None


@pytest.mark.parametrize("listen", LOOPBACK)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:7521", "localhost.evil.example", "127.0.0.1.evil.example:7521", "192.0.2.1",
        "0.0.0.0:7521", "[::2]:7521", "evil@localhost", "localhost:7521@evil", "127.0.0.1:x", "[::1]x", "localhost:", "::1:1",
    ],
)  # fmt: skip
def test_on_loopback_other_names_are_refused(listen, host) -> None:
    assert verdict(Guard(listen, []), host) is Reason.HOST


@pytest.mark.parametrize("listen", [*LOOPBACK, *ELSEWHERE])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://evil.example:7521", "null", "", "file://", "localhost", "http://[", "http://"],
)
def test_a_page_of_another_site_is_refused_everywhere(listen, origin) -> None:
    assert verdict(Guard(listen, []), "localhost:7521", origin) is Reason.ORIGIN


@pytest.mark.parametrize("listen", ELSEWHERE)
def test_elsewhere_the_daemon_can_not_know_its_name_but_a_page_may_call_only_its_own_host(listen) -> None:
    guard = Guard(listen, [])
    assert verdict(guard, "warehouse.example:7521") is None
    assert verdict(guard, "warehouse.example:7521", "http://warehouse.example:7521") is None
    assert verdict(guard, "Warehouse.example:7521", "HTTP://warehouse.EXAMPLE:7521") is None
    assert verdict(guard, "warehouse.example:7521", "http://warehouse.example:80") is Reason.ORIGIN


@pytest.mark.parametrize("listen", [*LOOPBACK, *ELSEWHERE])
def test_allowed_hosts_are_allowed_beside_loopback_ones_and_nobody_else(listen) -> None:
    guard = Guard(listen, ["Warehouse.example", "other.example:8080"])
    for host in (
        "warehouse.example",
        "WAREHOUSE.example:7521",
        "warehouse.example.:1",
        "other.example:8080",
        "localhost:1",
    ):
        assert verdict(guard, host) is None
        assert verdict(guard, "localhost", f"https://{host}") is None
    for host in ("evil.example", "other.example", "other.example:8081", "sub.warehouse.example"):
        assert verdict(guard, host) is Reason.HOST
        assert verdict(guard, "localhost", f"https://{host}") is Reason.ORIGIN


def test_a_call_without_a_host_is_no_browser() -> None:
    assert verdict(Guard("127.0.0.1:1", []), None) is None


def test_a_host_that_stands_twice_is_refused() -> None:
    with pytest.raises(Refusal, match="may stand once"):
        Guard("127.0.0.1:1", []).check(["localhost", "evil"], [])
