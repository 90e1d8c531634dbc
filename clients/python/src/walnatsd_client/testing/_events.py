"""Events of the in-memory sidecar: what is emitted, stored, remembered, due."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from walnatsd_client._proto import actors_pb2, events_pb2, message_pb2
from walnatsd_client.testing._actors import Consumer, Stored
from walnatsd_client.testing._clock import Clock
from walnatsd_client.testing._refusal import Refusal

DUPLICATE_WINDOW_S = 120.0
CALL_TIMEOUT_S = 4.0
LONGEST_DELAY_S = 366 * 86_400.0

_EVENT_NAME = re.compile(r"(?!walnatsd)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ACTOR_NAME = re.compile(r"(?!walnatsd)[A-Za-z0-9_-]+")
_LONGEST_NAME = 255
_UID = re.compile(r"(?! )[\x20-\x7e]{1,256}(?<! )")
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_RESERVED = re.compile(
    r"(nats|walnats|webhook)-.*|host|content-length|authorization|cookie|connection|transfer-encoding"
)


@dataclass(slots=True, eq=False)
class Emitted:
    """What was emitted, as it came, and what was answered."""

    request: events_pb2.EmitRequest
    response: events_pb2.EmitResponse


@dataclass(slots=True, eq=False)
class Stream:
    """An event's stream."""

    declaration: events_pb2.Event
    last_sequence: int = 0
    messages: dict[int, Stored] = field(default_factory=dict)
    """Those that an actor has not settled yet."""
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By uid: sequence and when."""
    consumers: dict[str, Consumer] = field(default_factory=dict)
    emitted: list[Emitted] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in NATS."""
        return self.declaration.name.replace(".", "-")


class Events:
    """The `Events` service."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        """Begin without events.

        Args:
            clock: Tells the time.
            changed: Called when something has happened to a message.
        """
        self.streams: dict[str, Stream] = {}
        self._clock = clock
        self._changed = changed
        self._watchers: list[tuple[set[str], asyncio.Queue[message_pb2.Message]]] = []

    # ---- declarations

    async def Register(self, request: events_pb2.RegisterEventsRequest) -> events_pb2.RegisterEventsResponse:  # noqa: N802
        """Declare events."""
        return events_pb2.RegisterEventsResponse(events=[self._declare(event) for event in request.events])

    def _declare(self, event: events_pb2.Event) -> events_pb2.RegisteredEvent:
        _check_name(event.name, _EVENT_NAME)
        stream = self.streams.get(event.name)
        name = event.name.replace(".", "-")
        if stream is not None:
            return events_pb2.RegisteredEvent(name=event.name, stream=name, updated=_update(stream.declaration, event))
        for other in self.streams.values():
            if other.name == name:
                told = f"the events {other.declaration.name} and {event.name} both map to the stream {name}"
                raise Refusal("CONFLICT", told)
        self.streams[event.name] = Stream(event)
        return events_pb2.RegisteredEvent(name=event.name, stream=name, created=True)

    def declare_actor(self, actor: actors_pb2.Actor) -> actors_pb2.RegisteredActor:
        """Declare an actor: it sees what others have not settled, or what comes from now on."""
        stream = self._find(actor.event)
        _check_name(actor.name, _ACTOR_NAME)
        if actor.HasField("filter"):
            raise Refusal("NOT_SUPPORTED", "the in-memory connection can't evaluate a filter; test it with a sidecar")
        registered = actors_pb2.RegisteredActor(name=actor.name, event=actor.event)
        if consumer := stream.consumers.get(actor.name):
            registered.updated.extend(_update(consumer.declaration, actor))
            consumer.pump()
            return registered
        most = stream.declaration.limits.consumers
        if most and len(stream.consumers) >= most:
            told = f"the event {actor.event} may have {most} actors and has them: {', '.join(stream.consumers)}"
            raise Refusal("CONFLICT", told)
        consumer = stream.consumers[actor.name] = Consumer(actor, self._clock, self._changed)
        consumer.settle = lambda stored: self._settle(stream, stored)
        if actor.start != "new":
            for stored in list(stream.messages.values()):
                consumer.add(stored)
        registered.created = True
        return registered

    def find_consumer(self, event: str, actor: str) -> Consumer:
        """Give an actor; raises Refusal where there is none."""
        stream = self.streams.get(event)
        if stream is None or actor not in stream.consumers:
            told = f"the event {event!r} has no actor {actor!r}; declare or register it first"
            raise Refusal("UNKNOWN_ACTOR", told)
        return stream.consumers[actor]

    def _find(self, event: str, uid: str = "") -> Stream:
        if event not in self.streams:
            told = f"the event {event!r} is not declared; add it to events in the config file or register it"
            raise Refusal("UNKNOWN_EVENT", told, uid=uid)
        return self.streams[event]

    # ---- emits

    async def Emit(self, request: events_pb2.EmitRequest) -> events_pb2.EmitResponse:  # noqa: N802
        """Store one message."""
        return self._emit(request)

    async def EmitBatch(self, request: events_pb2.EmitBatchRequest) -> events_pb2.EmitBatchResponse:  # noqa: N802
        """Store many messages."""
        return events_pb2.EmitBatchResponse(items=map(self._result, request.items))

    async def Call(self, request: events_pb2.CallRequest) -> events_pb2.CallResponse:  # noqa: N802
        """Store one message and wait for the first answer."""
        emit = request.emit
        stream = self._find(emit.event, emit.uid)
        if emit.WhichOneof("when"):
            raise Refusal("INVALID_TIME", "a call can't be delayed, for somebody waits for the answer", uid=emit.uid)
        if not stream.consumers:
            raise Refusal("NO_ACTORS", f"the event {emit.event!r} has no actor, so nobody can answer", uid=emit.uid)
        reply: asyncio.Future[events_pb2.CallResponse] = asyncio.get_running_loop().create_future()
        response = self._emit(emit, reply)
        if response.duplicate:
            told = f"a message of the uid {response.uid!r} is stored already; its answer goes to who emitted it"
            raise Refusal("DUPLICATE", told, uid=response.uid)
        wait_s = request.timeout.ToNanoseconds() / 1e9 if request.HasField("timeout") else CALL_TIMEOUT_S

        def give_up() -> None:
            told = f"no actor answered within {wait_s:g} s; the message will be handled all the same"
            if not reply.done():
                reply.set_exception(Refusal("NO_RESPONSE", told, uid=response.uid, maybe_stored=True))

        alarm = self._clock.after(wait_s, give_up)
        try:
            return await reply
        finally:
            alarm.cancel()

    async def Monitor(  # noqa: N802
        self, request: events_pb2.MonitorRequest
    ) -> AsyncIterator[message_pb2.Message | grpc.aio.Metadata]:
        """Watch what is emitted, from the metadata on."""
        for event in request.events:
            self._find(event)
        watcher = (set(request.events), asyncio.Queue[message_pb2.Message]())
        self._watchers.append(watcher)
        try:
            yield grpc.aio.Metadata(("walnats-watching", "1"))
            while True:
                yield await watcher[1].get()
        finally:
            self._watchers.remove(watcher)

    def _result(self, request: events_pb2.EmitRequest) -> events_pb2.EmitResult:
        try:
            response = self._emit(request)
        except Refusal as refusal:
            return events_pb2.EmitResult(uid=refusal.uid, error=refusal.status())
        return events_pb2.EmitResult(uid=response.uid, ok=response)

    def _emit(
        self, request: events_pb2.EmitRequest, reply: "asyncio.Future[events_pb2.CallResponse] | None" = None
    ) -> events_pb2.EmitResponse:
        stream = self._find(request.event, request.uid)
        for name, value in list(request.headers.items()):
            if name.lower().startswith("ce-"):
                request.headers[name] = _encoded(value)
        uid = _uid_of(request)
        for name in request.headers:
            if _RESERVED.fullmatch(name.lower()):
                raise Refusal("INVALID_HEADER", f"header {name!r} is reserved and can't be set by an emitter", uid=uid)
        if len(stream.consumers) < stream.declaration.min_actors:
            told = f"the event {request.event!r} has {len(stream.consumers)} actors, min_actors is more"
            raise Refusal("NO_ACTORS", told, uid=uid)
        wait_s = self._wait_s(request, uid)
        if wait_s > 0:
            response = self._schedule(stream, request, uid, wait_s)
        else:
            response = self._store(stream, request, uid, reply)
        stream.emitted.append(Emitted(request, response))
        self._changed()
        return response

    def _wait_s(self, request: events_pb2.EmitRequest, uid: str) -> float:
        match request.WhichOneof("when"):
            case "delay":
                wait_s = request.delay.ToNanoseconds() / 1e9
                if wait_s < 0:
                    raise Refusal("INVALID_TIME", f"delay is not below zero; this one is {wait_s:g}", uid=uid)
            case "deliver_at":
                wait_s = request.deliver_at.ToNanoseconds() / 1e9 - self._clock.wall()
            case _:
                return 0.0
        if request.HasField("expected_last_sequence"):
            raise Refusal("INVALID_REQUEST", "an expected sequence can't be kept for later", uid=uid)
        if wait_s > LONGEST_DELAY_S:
            raise Refusal("INVALID_TIME", f"at most a year ahead; this is {wait_s / 86400:.1f} days ahead", uid=uid)
        return wait_s

    def _schedule(
        self, stream: Stream, request: events_pb2.EmitRequest, uid: str, wait_s: float
    ) -> events_pb2.EmitResponse:
        # not the uid alone: an immediate emit and a delayed one of the same uid are no duplicates of each other
        duplicate = self._is_known(stream, f"scheduled {uid}")
        if not duplicate:
            stream.seen[f"scheduled {uid}"] = (0, self._clock.now())

            def be_due() -> None:
                self._store(stream, request, uid, None)
                self._changed()

            self._clock.after(wait_s, be_due)
        return events_pb2.EmitResponse(uid=uid, stream=stream.name, duplicate=duplicate, scheduled=True)

    def _store(
        self,
        stream: Stream,
        request: events_pb2.EmitRequest,
        uid: str,
        reply: "asyncio.Future[events_pb2.CallResponse] | None",
    ) -> events_pb2.EmitResponse:
        self._show(request, uid)
        if self._is_known(stream, uid):
            sequence, _ = stream.seen[uid]
            return events_pb2.EmitResponse(uid=uid, stream=stream.name, sequence=sequence, duplicate=True)
        if request.HasField("expected_last_sequence") and request.expected_last_sequence != stream.last_sequence:
            told = f"the stream's last message is another one than expected: {stream.last_sequence}"
            raise Refusal("SEQUENCE", told, uid=uid)
        self._make_room(stream, uid)
        stream.last_sequence += 1
        stored = Stored(request, uid, stream.last_sequence, self._clock.wall(), reply)
        stream.seen[uid] = (stored.sequence, self._clock.now())
        if stream.consumers:  # else nobody is interested, and it is not stored
            stream.messages[stored.sequence] = stored
            for consumer in stream.consumers.values():
                consumer.add(stored)
        return events_pb2.EmitResponse(uid=uid, stream=stream.name, sequence=stored.sequence)

    def _show(self, request: events_pb2.EmitRequest, uid: str) -> None:
        """Show a message to those who watch, on its way to the stream: before it has a place, and if it gets none."""
        message = Stored(request, uid, sequence=0, stored_at=self._clock.wall()).message()
        for names, queue in self._watchers:
            if not names or request.event in names:
                queue.put_nowait(message)

    def _make_room(self, stream: Stream, uid: str) -> None:
        limits = stream.declaration.limits
        if not limits.HasField("messages") or len(stream.messages) < limits.messages:
            return
        if limits.when_full == "refuse":
            told = f"the event holds its limit of {limits.messages} messages; emit again when its actors have made room"
            raise Refusal("EVENT_FULL", told, uid=uid)
        oldest = next(iter(stream.messages))
        del stream.messages[oldest]
        for consumer in stream.consumers.values():
            consumer.drop(oldest)

    def _is_known(self, stream: Stream, uid: str) -> bool:
        window = stream.declaration.duplicate_window
        window_s = (
            window.ToNanoseconds() / 1e9 if stream.declaration.HasField("duplicate_window") else DUPLICATE_WINDOW_S
        )
        return uid in stream.seen and self._clock.now() - stream.seen[uid][1] < window_s

    @staticmethod
    def _settle(stream: Stream, stored: Stored) -> None:
        """Drop a message that no actor needs any more."""
        if not any(stored.sequence in consumer.unsettled for consumer in stream.consumers.values()):
            stream.messages.pop(stored.sequence, None)


def _encoded(value: str) -> str:
    """Percent-encode the value of an attribute, once (CloudEvents HTTP binding, section 3.1.3.2)."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", value), safe=_PLAIN + "%")


def _uid_of(request: events_pb2.EmitRequest) -> str:
    attributes = {name.lower(): value for name, value in request.headers.items()}
    source, id_ = attributes.get("ce-source"), attributes.get("ce-id")
    uid = request.uid or (f"{source} {id_}" if source and id_ else uuid.uuid4().hex)
    if not _UID.fullmatch(uid):
        told = f"a uid is 1 to 256 visible ASCII characters or spaces, without spaces at its ends; this one is {uid[:300]!r}"
        raise Refusal("INVALID_UID", told)
    return uid


def _check_name(name: str, pattern: "re.Pattern[str]") -> None:
    if not pattern.fullmatch(name) or len(name) > _LONGEST_NAME:
        told = f"{name[:300]!r} is no name: letters, digits, - and _; those that begin with walnatsd are reserved"
        raise Refusal("INVALID_DECLARATION", told)


def _update(declared: Message, update: Message, prefix: str = "") -> list[str]:
    """Change what is declared anew and differs; give the names of what was changed."""
    changed = []
    for each, value in update.ListFields():
        if each.message_type is not None and each.message_type.name == "Limits":
            changed += _update(getattr(declared, each.name), value, f"{each.name}.")
        elif _is_other(declared, each, value):
            changed.append(prefix + each.name)
            declared.ClearField(each.name)
            one = type(declared)()
            one.CopyFrom(update)
            for other, _ in update.ListFields():
                if other.name != each.name:
                    one.ClearField(other.name)
            declared.MergeFrom(one)
    return changed


def _is_other(declared: Message, each: FieldDescriptor, value: object) -> bool:
    if each.has_presence and not declared.HasField(each.name):
        return True
    return bool(getattr(declared, each.name) != value)
