"""Names of events and actors, uids, headers, URLs: what is allowed and who may set what."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walnatsd.model.actor import check_url
from walnatsd.model.headers import check_configured_header, check_emitted_header, check_uid
from walnatsd.model.names import check_actor_name, check_event_name, stream_name


@pytest.mark.parametrize("name", ["e", "parcel-sent", "a.b.c", "A_1-", "-", "9", "x" * 255])
def test_good_names_of_events(name) -> None:
    assert check_event_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "a b", "a*", "a.>", "ä", "a/b", "a\n", "a\0", "x" * 256, "walnatsd", "walnatsd.x"],
)
def test_bad_names_of_events(name) -> None:
    with pytest.raises(ValueError):
        check_event_name(name)


@pytest.mark.parametrize("name", ["a.b", "", "a b", "a\n", "x" * 256, "walnatsd-x"])
def test_bad_names_of_actors(name) -> None:
    with pytest.raises(ValueError):
        check_actor_name(name)


@given(st.text(max_size=20))
def test_names_follow_the_rule_of_the_contract_exactly(name) -> None:
    for check, rule in ((check_event_name, r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"), (check_actor_name, "[A-Za-z0-9_-]+")):
        fits = re.fullmatch(rule, name) is not None and not name.startswith("walnatsd")
        try:
            check(name)
        except ValueError:
            assert not fits
        else:
            assert fits


def test_the_stream_is_the_event_with_dashes_for_dots() -> None:
    assert stream_name("a.b-c.d_e") == "a-b-c-d_e"


@pytest.mark.parametrize("uid", ["a", "a b", '~!"%', "x" * 256])
def test_good_uids(uid) -> None:
    assert check_uid(uid) == uid


@pytest.mark.parametrize("uid", ["", "x" * 257, "a\n", "a\r\nX: y", "ä", "a\t", "a\0", "a\x7f", " a", "a "])
def test_bad_uids(uid) -> None:
    with pytest.raises(ValueError):
        check_uid(uid)


RESERVED = [
    "Nats-Msg-Id", "nats-rollup", "Nats-TTL", "Nats-Expected-Stream", "Nats-Schedule", "Walnats-Reply", "Walnats-Delay",
    "Walnats-Trace", "walnats-event", "WALNATS-X", "webhook-id", "Webhook-Signature", "Host", "Content-Length",
    "Authorization", "COOKIE", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate",
    "TE", "Trailer", "Transfer-Encoding", "Upgrade", "walnatsd-original-Nats-Msg-Id",
]  # fmt: skip


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_headers_can_not_be_set_by_an_emitter(name) -> None:
    with pytest.raises(ValueError, match="is reserved and can't be set by an emitter"):
        check_emitted_header(name, "x")


@pytest.mark.parametrize("name", ["ce-id", "traceparent", "tracestate", "X-Mine", "Nats", "Walnats", "Webhooks-Id", "natsy", "Content-Type"])  # fmt: skip
def test_other_headers_can(name) -> None:
    check_emitted_header(name, "any value: with, signs and ümläuts\t")


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "a\r\n", "ä", "a\0", "a(b)"])
def test_a_header_name_is_a_token(name) -> None:
    with pytest.raises(ValueError, match="is not a token"):
        check_emitted_header(name, "x")


@pytest.mark.parametrize("value", ["a\r\nNats-Rollup: all", "a\nb", "a\rb", "a\0", "\x1b[0m", "\x7f"])
def test_a_header_value_has_no_control_characters(value) -> None:
    with pytest.raises(ValueError, match="holds a control character"):
        check_emitted_header("X-A", value)


def test_a_header_value_is_unicode() -> None:
    with pytest.raises(ValueError, match="is not valid Unicode"):
        check_emitted_header("X-A", "\udcff")


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Team", "Content-Type"])
def test_the_config_may_set_credentials_that_an_emitter_may_not(name) -> None:
    assert check_configured_header(name) == name


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "Transfer-Encoding", "webhook-id", "walnats-attempt", "Nats-X", "a b"]
)
def test_the_config_may_not_set_what_walnatsd_sets(name) -> None:
    with pytest.raises(ValueError):
        check_configured_header(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/send-email",
        "https://h",
        "http://[::1]:80/x?y=z#f",
        "http://a_b.c-d.:1/",
        "HTTP://exämple.de/%20",
    ],
)
def test_good_urls(url) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "h", "h:80", "//h", "ftp://h", "http://", "http:///x", "http://h:0", "http://h:65536", "http://h:x", "http://[::1",
        "http://[zz]", "http://[v1.a]/", "http://u:p@h", "http://u@h", "http://h/ x", "http://h/\n", "http://a..b", "http://*",
        "http://h\\x", "http://" + "a" * 64, "http://" + "a." * 127 + "a", "http://ab\u00ad/", "unix:/run/x", "http://a,b/",
    ],
)  # fmt: skip
def test_bad_urls(url) -> None:
    with pytest.raises(ValueError):
        check_url(url)
