"""The one connection to NATS: it comes, it may go, it comes back."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import structlog
from nats import errors

from walnatsd.broker.client import Client
from walnatsd.broker.denied import Denied
from walnatsd.broker.errors import NotConnectedError
from walnatsd.broker.failures import in_words
from walnatsd.broker.identity import identity_options
from walnatsd.broker.inbox import Inbox
from walnatsd.broker.replies import NO_ANSWER, Replies
from walnatsd.broker.wire import Frame, publish_frame, publish_frames, word_frames
from walnatsd.config.certificates import Certificates
from walnatsd.config.secrets import Secrets
from walnatsd.config.settings import Nats
from walnatsd.config.tls import client_files
from walnatsd.observe.health import Health
from walnatsd.observe.metrics import Metrics

PING_INTERVAL_S = 5
RECONNECT_WAIT_S = 0.25
CONNECT_TIMEOUT_S = 5
WATCH_INTERVAL_S = 1.0
BREAK_PAUSE_S = 0.01
END_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 0.5
REPEAT_WAITING_S = 30.0
CANCEL_AGAIN_S = 0.1
HEALTH_PART = "nats"

_log = structlog.get_logger("walnatsd.nats")


class Connection:
    """A connection that heals itself. Made by `connect`.

    Frames are sent without waiting; a request waits for its reply. Who needs the connection back after an outage waits
    with `wait_connected` or is called back.
    """

    def __init__(self, settings: Nats, health: Health, metrics: Metrics) -> None:
        certificates = None if settings.tls is None else Certificates("nats", client_files(settings.tls))
        if certificates is not None:
            metrics.watch_certificate("nats", certificates.valid_until_s, lambda: bool(certificates.problem))
        self.now = asyncio.get_running_loop().time
        """The loop's clock. To ask for the running loop costs a system call each time, which an emit does not have to spare."""
        self._client = Client(on_loss=self._go, certificates=certificates)
        self._inbox = f"{settings.inbox_prefix}.{secrets.token_hex(9)}"
        self._inboxes = 0
        self._denied = Denied(self._inbox, settings.inbox_prefix, asyncio.get_running_loop().time)
        self._replies = Replies(f"{self._inbox}.r", self._denied.why_silent, self._client.group.answered)
        self.inbox = Inbox(settings.inbox_prefix)
        """Where answers to calls come in."""
        self._connected = asyncio.Event()
        self._callbacks: list[Callable[[bool], None]] = []
        self._health = health
        self._metrics = metrics
        self._places = ", ".join(_without_password(server) for server in settings.servers)
        self._said = ""
        self._said_at = 0.0
        self._ending = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client.on_sink_failure(self._fail)
        health.set_problem(HEALTH_PART, f"waiting for NATS at {self._places}: connecting")

    # ---- for everybody

    @property
    def is_connected(self) -> bool:
        """Whether frames can be sent now."""
        return self._connected.is_set() and self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes that one message may have, headers included."""
        return self._client.max_payload

    @property
    def known_max_payload(self) -> int | None:
        """The same as the latest server said it; None before the first connection."""
        return self._client.max_payload if self.server_version else None

    @property
    def server_version(self) -> str:
        """Version of the server, empty before the first connection."""
        return str(self._client._server_info.get("version", ""))  # noqa: SLF001

    async def wait_connected(self) -> None:
        """Wait until NATS is there."""
        await self._connected.wait()
        while not self.is_connected:  # it has just broken, and the library has yet to say so: who comes here would spin
            await asyncio.sleep(BREAK_PAUSE_S)
            await self._connected.wait()

    def on_change(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Call back with True after each (re)connect and with False after each loss. Returns what ends it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def publish(self, subject: str, payload: bytes = b"", *, reply: str = "", head: bytes = b"") -> None:
        """Send a message without waiting for anything.

        Raises:
            NotConnectedError: Nothing was sent.
        """
        if not self._connected.is_set():
            raise NotConnectedError("NATS is not connected")
        self._client.send(publish_frame(subject, reply, head, payload))

    async def request(self, subject: str, payload: bytes = b"", *, head: bytes = b"", timeout_s: float = 5.0) -> Frame:
        """Send a message and wait for the reply; raises as `ask` and what it gives."""
        return await self.ask(subject, payload, head=head, timeout_s=timeout_s)

    def ask(
        self, subject: str, payload: bytes = b"", *, head: bytes = b"", timeout_s: float = 5.0, in_group: bool = False
    ) -> asyncio.Future[Frame]:
        """Send a message now, or in a group with others that come soon; the reply is to be awaited.

        Awaiting it raises NoReplyError (no answer within `timeout_s` seconds, or the connection broke) and
        NoRespondersError (nobody listens there).

        Raises:
            NotConnectedError: Nothing was sent.
        """
        if not self._connected.is_set():
            raise NotConnectedError("NATS is not connected")
        reply, future = self._replies.expect(timeout_s, subject, in_group=in_group)
        send = self._client.send_in_group if in_group else self._client.send
        try:
            send(publish_frame(subject, reply, head, payload))
        except NotConnectedError:
            future.cancel()
            raise
        return future

    def ask_all(
        self, subject: str, messages: Sequence[tuple[bytes, bytes]], *, timeout_s: float
    ) -> list[asyncio.Future[Frame]]:
        """Send several messages, each a head and a payload, to one subject as `ask` sends one; raises as that does."""
        if not self._connected.is_set():
            raise NotConnectedError("NATS is not connected")
        replies, futures = self._replies.expect_many(len(messages), timeout_s, subject)
        try:
            self._client.send(publish_frames(subject, replies, messages))
        except NotConnectedError:
            for future in futures:
                future.cancel()
            raise
        return futures

    def say_all(self, subjects: Sequence[str], word: str, *, timeout_s: float = 5.0) -> asyncio.Future[Frame]:
        """Say a word to each of some subjects now; that all of them have replied is to be awaited.

        Raises and is awaited as `ask`, with one answer that does not come, or says that nobody listens, for all.
        """
        if not self._connected.is_set():
            raise NotConnectedError("NATS is not connected")
        reply, future = self._replies.expect_all(len(subjects), timeout_s, subjects[0])
        try:
            self._client.send(word_frames(subjects, reply, word))
        except NotConnectedError:
            future.cancel()
            raise
        return future

    def why_silent(self, subject: str) -> str:
        """Say why there was no answer from a subject."""
        return self._denied.why_silent(subject) or NO_ANSWER

    def spell(self, *subjects: str) -> None:
        """Name subjects that no answer is waited for from, so that it can be told which of them is denied."""
        self._denied.spellings.update(subjects)

    def new_inbox(self) -> str:
        """Give a subject of this connection's own."""
        self._inboxes += 1
        return f"{self._inbox}.{self._inboxes}"

    async def attach(self, subject: str, sink: Callable[[Frame], None]) -> int:
        """Subscribe; `sink` gets each frame as it is read and must not block. Returns a subscription id."""
        if not subject.startswith(self._inbox):
            self.spell(subject)
        return await self._client.attach(subject, sink)

    async def detach(self, sid: int, *, flush: bool = True) -> None:
        """Unsubscribe; with `flush`, after what the server had sent has arrived."""
        await self._client.detach(sid, flush=flush)

    async def confirm(self) -> None:
        """Wait until the server has read all that was sent, for as long as the caller lets it.

        Raises:
            NotConnectedError: There is no connection.
        """
        if not self._connected.is_set():
            raise NotConnectedError("NATS is not connected")
        await self._client.confirm()

    # ---- the life of the connection

    async def keep(self, options: Mapping[str, Any], settings: Nats) -> None:
        """Connect, however long it takes, then watch over the connection for ever.

        Raises:
            ConnectionError: The connection ended for good, which it must not.
        """
        await self._client.connect(**options, **identity_options(settings, self._client), **self._callback_options())
        try:
            sid = await self._client.attach(self._replies.subject, self._replies.receive)
            self._client.count_same(sid, self._replies.receive)
            await self._client.attach(self.inbox.subject, self.inbox.receive)
        except errors.ConnectionClosedError:
            if not self._ending:
                raise
        if self._ending:
            return  # the daemon stops while it connects
        self._come()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._replies.sweep(), name="nats/sweep")
            tasks.create_task(self._watch(), name="nats/watch")
            await self.ended
        raise ConnectionError("the NATS connection was closed for good")

    async def end(self, timeout_s: float) -> None:
        """Send what is queued and see it arrive, for `timeout_s` seconds at most; then close.

        Subscriptions need no draining: what they lead to has ended before.
        """
        self._ending = True
        if self._client.is_connected:
            with contextlib.suppress(Exception):  # whatever it is, the connection ends here
                await self._client.flush(timeout=timeout_s)  # type: ignore[arg-type]
        self._go()
        self._client.drop_socket()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.close(), CLOSE_TIMEOUT_S)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if dead := await self._client.revive():
                _log.warning("a task of the NATS connection had died; reconnecting", task=dead)

    def _callback_options(self) -> dict[str, Any]:
        async def error(exception: Exception) -> None:
            self._on_error(exception)

        async def disconnected() -> None:
            self._go()

        async def reconnected() -> None:
            self._metrics.nats_reconnects.inc()
            self._come()

        async def closed() -> None:
            self._go()
            if not self._ending and not self.ended.done():
                self.ended.set_result(None)

        return {
            "error_cb": error,
            "disconnected_cb": disconnected,
            "reconnected_cb": reconnected,
            "closed_cb": closed,
        }

    def _come(self) -> None:
        self._connected.set()
        self._said = ""
        self._health.clear(HEALTH_PART)
        self._metrics.nats_connected.set(1)
        url = self._client.connected_url
        server = _without_password(url.netloc) if url is not None else ""
        _log.info("connected to NATS", server=server, version=self.server_version)
        self._call_back(connected=True)

    def _go(self) -> None:
        self._client.forget_unsent()
        if not self._connected.is_set():
            return
        self._connected.clear()
        self._metrics.nats_connected.set(0)
        if not self._ending:
            self._tell_waiting("the connection was lost")
        self._replies.break_off()
        self.inbox.losses += 1
        self._call_back(connected=False)

    def _call_back(self, *, connected: bool) -> None:
        for callback in list(self._callbacks):
            callback(connected)

    def _on_error(self, exception: Exception) -> None:
        text = in_words(exception)
        if (denied := self._denied.note(text, self._replies.asked)) is not None:
            self._metrics.nats_denied.inc()
            if denied:
                _log.error(denied)
            return
        if self._ending:
            return
        if self._connected.is_set():
            _log.warning("NATS reports an error", error=text)
        else:
            self._tell_waiting(text)

    def _tell_waiting(self, why: str) -> None:
        """Say what is waited for: when it changes, and now and then."""
        problem = f"waiting for NATS at {self._places}: {why}"
        self._health.set_problem(HEALTH_PART, problem)
        now = asyncio.get_running_loop().time()
        if problem != self._said or now - self._said_at >= REPEAT_WAITING_S:
            self._said, self._said_at = problem, now
            _log.warning(problem)

    def _fail(self, exception: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(exception)


@contextlib.asynccontextmanager
async def connect(
    settings: Nats,
    secrets_: Secrets,
    *,
    name: str,
    health: Health,
    metrics: Metrics,
    end_within_s: Callable[[], float] = lambda: END_TIMEOUT_S,
) -> AsyncIterator[Connection]:
    """Open the connection. It is given at once and connects in the background, however long that takes.

    Leaving it sends what is queued, for as long as `end_within_s` then gives.
    """
    connection = Connection(settings, health, metrics)
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(
            connection.keep(_options(settings, secrets_, name), settings), name="nats/connection"
        )
        try:
            yield connection
        finally:
            await connection.end(end_within_s())
            while (
                not keeper.done()
            ):  # wait_for, which the library connects with, can lose a cancellation (cpython#86296)
                keeper.cancel()
                await asyncio.wait([keeper], timeout=CANCEL_AGAIN_S)


def _options(settings: Nats, secrets_: Secrets, name: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "servers": list(settings.servers),
        "name": name,
        "inbox_prefix": settings.inbox_prefix,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_S,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "ping_interval": PING_INTERVAL_S,
        "pending_size": -1,  # nothing is buffered while disconnected: callers learn the truth
    }
    if settings.token is not None:
        options["token"] = secrets_.reveal(settings.token)
    if settings.user is not None and settings.password is not None:
        options |= {"user": settings.user, "password": secrets_.reveal(settings.password)}
    if settings.tls is not None:
        # that there is TLS; the context is the client's own, which keeps up with the files
        options |= {"tls": True, "tls_hostname": settings.tls.hostname}
    return options


def _without_password(server: str) -> str:
    scheme, separator, rest = server.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
