"""Strategies for what a receiver may send and do: HTTP of every kind, HTTP with damage, and no HTTP at all."""

import itertools
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

STATUSES = [
    200, 201, 202, 204, 206, 299, 300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 407, 408, 409, 410, 413, 415,
    418, 422, 425, 429, 451, 499, 500, 501, 502, 503, 504, 505, 511, 599,
]  # fmt: skip
BODILESS = (204, 304)
End = Literal["stay", "close", "reset", "hang"]


@dataclass(frozen=True)
class Answer:
    """What is sent, in pieces, and how it ends."""

    pieces: tuple[bytes, ...]
    end: End
    """`stay`: the next request may come; `hang`: nothing comes any more and the connection stays open."""
    status: int | None
    """What it is by the rules of HTTP; None where it is none, or nobody can say."""


def _cut(raw: bytes, places: list[int]) -> tuple[bytes, ...]:
    edges = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return tuple(raw[begin:end] for begin, end in itertools.pairwise(edges) if end > begin)


_NAMES = st.sampled_from(["Content-Type", "X-A", "Set-Cookie", "Location", "Server", "Content-Encoding", "Vary"])
_VALUES = st.sampled_from(["text/plain", "gzip", "/hook", "a=b", "", "x" * 300]) | st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20
)
_REASONS = st.sampled_from(["OK", "", "Not Great", "\xe9", "x" * 200])
_BODIES = st.sampled_from([b"", b"ok", b"{}", b"x" * 70_000, b"HTTP/1.1 400 Bad\r\n\r\n"]) | st.binary(max_size=40)
_PLACES = st.lists(st.integers(0, 1 << 16), max_size=3)


@st.composite
def good_answers(draw: st.DrawFn) -> Answer:
    """HTTP/1.1 as it is meant to be, in each of its ways to say where a body ends."""
    status, body = draw(st.sampled_from(STATUSES)), draw(_BODIES)
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    lines = [f"{name}: {value.strip()}" for name, value in draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=3))]
    end: End = "close"
    if status in BODILESS:
        raw_body = b""
        end = draw(st.sampled_from(["stay", "close"]))
    elif (framing := draw(st.sampled_from(["length", "chunked", "close"]))) == "length":
        lines.append(f"Content-Length: {len(body)}")
        raw_body, end = body, draw(st.sampled_from(["stay", "close"]))
    elif framing == "chunked" and version == "1.1":
        lines.append("Transfer-Encoding: chunked")
        raw_body, end = _chunked(body, draw(_PLACES)), draw(st.sampled_from(["stay", "close"]))
    else:
        raw_body = body
    if end == "close" or version == "1.0":
        lines.append("Connection: close")
        end = "close"
    head = "\r\n".join([f"HTTP/{version} {status} {draw(_REASONS)}", *lines, "", ""]).encode("latin-1")
    early = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"])
    )
    return Answer(_cut(early + head + raw_body, draw(_PLACES)), end, status)


def _chunked(body: bytes, places: list[int]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _cut(body, places)) + b"0\r\n\r\n"


@st.composite
def cut_answers(draw: st.DrawFn) -> Answer:
    """The beginning of an answer, and then its end before its time."""
    whole = b"".join(draw(good_answers()).pieces)
    return Answer(_cut(whole[: draw(st.integers(0, len(whole)))], draw(_PLACES)), draw(_ENDS), None)


@st.composite
def longer_answers(draw: st.DrawFn) -> Answer:
    """An answer and something behind it, which is nobody's; whether it comes before the answer is read is chance."""
    good = draw(good_answers())
    extra = draw(
        st.sampled_from([b"\r\n", b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", b"x"]) | st.binary(max_size=20)
    )
    return Answer((*good.pieces, extra), good.end, None)


_BAD_LINES = st.sampled_from(
    [
        "Content-Length: 5", "Content-Length: -1", "Content-Length: 18446744073709551616", "Content-Length: 1, 1",
        "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x", "Connection: upgrade",
        "Upgrade: h2c", "Retry-After: 0", "Retry-After: soon", "Retry-After: -1", "Retry-After: \xe9", " folded: x",
        "no colon", ": no name", "X\x00: 1", "X: \x01", "Content-Encoding: br", "Content-Type: \xff; charset=nonsense",
    ]
)  # fmt: skip


@st.composite
def bad_answers(draw: st.DrawFn) -> Answer:
    """A head of which something is wrong or surprising, or bytes that are no head."""
    status = draw(st.integers(-1, 1200).map(str) | st.text("0123456789 +-.x\xb2", max_size=5))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/2", "HTTP/1.9", "HTTP", "http/1.1", "ICY", ""]))
    end_of_line = draw(st.sampled_from(["\r\n", "\r\n", "\n", "\r"]))
    lines = [f"{version} {status} {draw(_REASONS)}", *draw(st.lists(_BAD_LINES, max_size=4)), "", ""]
    made = end_of_line.join(lines).encode("latin-1") + draw(_BODIES)
    raw = draw(st.just(made) | st.just(made) | st.binary(max_size=60))
    return Answer(_cut(raw, draw(_PLACES)), draw(_ENDS), None)


_ENDS: st.SearchStrategy[End] = st.sampled_from(["close", "close", "close", "reset", "reset", "stay", "hang"])
ANSWERS: st.SearchStrategy[Answer] = (
    good_answers() | good_answers() | cut_answers() | longer_answers() | bad_answers() | bad_answers()
)
