"""One connection of HTTP/1.1 and the exchange on it: a request goes out as it is, one answer comes back."""

import asyncio
from typing import NamedTuple, cast

import httptools

from walnatsd.webhook.errors import BrokenError, NotHttpError

HEAD_LIMIT_BYTES = 64 * 1024
"""So much may come without anything of a body in it: the head and all interim answers before it, a trailer."""
COPIED_BYTES = 64 * 1024
"""Up to this size, head and body are copied together, which is cheaper than a second buffer to write."""
_SWITCHING_PROTOCOLS = 101


class Answer(NamedTuple):
    """What was answered, as far as it was read."""

    status: int
    content_type: str
    """`Content-Type`; empty where there is none."""
    retry_after: str | None
    """`Retry-After`."""
    body: bytes
    complete: bool
    """Whether this is all of the body: it was not cut short, late, or longer than what is read."""


class HttpConnection(asyncio.Protocol):
    """A connection that is idle or in an exchange.

    It can be used again only where nothing is left over: the answer is whole and leaves it open, nothing came after it, and
    the request went out completely (some answer early, without reading it). Otherwise what is read next might be taken for
    the answer to another message.
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # what careless servers write and others read; aiohttp's client takes the same liberties
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[Answer | Exception] | None = None
        self._deadline = 0.0
        """When the exchange that began last must have ended, by the loop's clock."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._usable = False
        self.idle_since = 0.0
        """When its last exchange ended, by the loop's clock; for who keeps it."""
        self._limit = self._unread_bytes = self._status = self._body_bytes = 0
        self._body: list[bytes] = []
        self._content_type = b""
        self._retry_after: bytes | None = None
        self._head_complete = self._has_end = False

    @property
    def usable(self) -> bool:
        """Whether another exchange may begin."""
        return self._usable and not self._transport.is_closing()

    async def exchange(self, head: bytes, body: bytes, *, limit: int, timeout_s: float) -> Answer:
        """Send a request and read its answer. The connection must be usable.

        Whatever ends this early closes the connection, cancellation included.

        Args:
            head: The head, with the empty line at its end.
            body: As long as the head says.
            limit: So many bytes of the answer's body are read; where it has more, the connection is closed.
            timeout_s: For all of it. An answer whose head came in time is cut short instead.

        Raises:
            BrokenError: The connection ended before an answer came.
            NotHttpError: What came is none.
            TimeoutError: Nothing came in time.
        """
        waiter: asyncio.Future[Answer | Exception] = self._loop.create_future()
        self._waiter = waiter
        self._deadline = self._loop.time() + timeout_s
        if self._timer is None or self._deadline < self._timer_at:
            self._set_timer()
        self._usable, self._limit, self._unread_bytes = False, limit, 0
        self._forget_answer()
        if len(body) <= COPIED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        try:
            answer = await waiter
        finally:
            self._waiter = None
            if not self._usable or self._transport.get_write_buffer_size():
                self.abort()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def abort(self) -> None:
        """Close it at once."""
        self._usable = False
        self._transport.abort()

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: it is open."""
        self._transport = cast("asyncio.Transport", transport)
        self._usable = True

    def data_received(self, data: bytes) -> None:
        """Read more of the answer. What nobody waits for is the end of the connection."""
        if self._waiter is None or self._waiter.done():
            self.abort()
            return
        self._unread_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._usable = False
        except httptools.HttpParserError as error:
            self._fail(NotHttpError(str(error)))
        if self._unread_bytes > HEAD_LIMIT_BYTES:
            self._fail(NotHttpError(f"{HEAD_LIMIT_BYTES >> 10} KiB of headers, and no end of them"))

    def eof_received(self) -> None:
        """End a body that has no other end. The transport closes itself then."""
        if self._head_complete and not self._has_end:
            self._finish(complete=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """End: it is closed."""
        self._usable = False
        if self._timer is not None:
            self._timer.cancel()
        self._fail(BrokenError(str(exc) if exc is not None else "the other side closed it"))

    # ---- the parser's calls

    def on_message_begin(self) -> None:
        """Begin to read an answer. One that nobody waits for makes the connection unusable."""
        if self._waiter is None or self._waiter.done():
            self._usable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep what matters of a head; nothing does in a trailer."""
        if self._head_complete:
            return
        match name.lower():
            case b"content-length":
                self._has_end = True
            case b"transfer-encoding":
                self._has_end = value.rstrip().lower().endswith(b"chunked")
            case b"content-type":
                self._content_type = self._content_type or value
            case b"retry-after":
                self._retry_after = self._retry_after or value

    def on_headers_complete(self) -> None:
        """Take note that the head is whole, unless it is an interim one (RFC 9110, section 15.2)."""
        self._status = self._parser.get_status_code()
        # after 101 comes another protocol and no answer
        self._head_complete = self._status >= 200 or self._status == _SWITCHING_PROTOCOLS

    def on_body(self, data: bytes) -> None:
        """Collect the body, up to the limit."""
        self._unread_bytes = 0
        if self._body_bytes > self._limit:
            return
        self._body.append(data)
        self._body_bytes += len(data)
        if self._body_bytes > self._limit:
            self._finish(complete=False)

    def on_message_complete(self) -> None:
        """End an answer; after an interim one, begin anew."""
        if not self._head_complete:
            self._forget_answer()
        elif self._waiter is not None and not self._waiter.done():
            self._usable = self._parser.should_keep_alive()
            self._finish(complete=True)

    # ---- the answer

    def _forget_answer(self) -> None:
        self._status, self._head_complete, self._has_end = 0, False, False
        self._content_type, self._retry_after = b"", None
        self._body, self._body_bytes = [], 0

    def _finish(self, *, complete: bool) -> None:
        """Give the answer to who waits for it."""
        if self._waiter is None or self._waiter.done():
            return
        retry_after = self._retry_after
        self._waiter.set_result(
            Answer(
                self._status,
                self._content_type.decode("utf-8", "replace").strip() if self._content_type else "",
                None if retry_after is None else retry_after.decode("utf-8", "replace"),
                b"".join(self._body)[: self._limit],
                complete,
            )
        )

    def _fail(self, error: Exception) -> None:
        """Say that no answer will come; where its head did, it is cut short."""
        if self._head_complete:
            self._finish(complete=False)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(error)  # not as its exception: who waits may be cancelled, and never look

    def _set_timer(self) -> None:
        """Look at the deadline when it is there. One timer for each exchange would cost more than a µs each time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(self._deadline, self._look_at_deadline), self._deadline

    def _look_at_deadline(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:  # that of a later exchange
            self._set_timer()
        else:
            self._fail(TimeoutError())
