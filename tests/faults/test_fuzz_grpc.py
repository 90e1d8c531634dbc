"""Messages of every kind, and bytes that are none, to every method of gRPC: an answer or a refusal of the table, and the daemon stays up."""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import Message
from hypothesis import strategies as st

from support import fuzz
from support.any_message import wires
from support.daemon import config_text, process
from support.grpc_calls import refused, refused_status
from walnatsd.api.errors import TABLE
from walnatsd.model.refusal import Reason
from walnatsd.v1 import actors_pb2, events_pb2, message_pb2

KNOWN: dict[str, list[Any]] = {
    "event": ["counts", "words", "counts", "", "nobody", "a b", "walnatsd.x"],
    "events": ["counts", "words", "nobody", ""],
    "actor": ["listen", "count", "nobody", ""],
    "name": ["counts", "words", "one", "listen", "", "a b", "walnatsd-x"],
    "uid": ["a", "b", " ", "ä", "x" * 257, ""],
    "trace_id": ["t", "t\r\nNats-Rollup: all"],
    "content_type": ["application/json", "text/plain\n"],
    "headers": ["X-A", "ce-id", "ce-source", "traceparent", "Nats-Rollup", "Walnats-Reply", "Host", "X A", "x-a"],
    "url": ["", "http://127.0.0.1:1/", "http://127.0.0.1:1", "http:///", "ftp://127.0.0.1/", "http://[::1/"],
    "wait_for": ["", "http://127.0.0.1:1/", "http://a b/"],
    "storage": ["file", "memory", "tape"],
    "when_full": ["drop_oldest", "refuse", "weep"],
    "start": ["new", "retained", "later"],
    "priority": ["high", "normal", "low", "none"],
    "filter": ["data == 1", "ce.source == '/a'", "(", "1 / 0 == 1"],
    "pointer": ["/a", "", "a", "/~2"],
    "header": ["ce-partitionkey", "X A", ""],
    "delivery_id": [1, 2, 3],
    "max_in_flight": [0, 1, 5],
}
EVENTS, ACTORS = "/walnatsd.v1.Events/", "/walnatsd.v1.Actors/"
UNARY: list[tuple[str, type[Message], type[Message]]] = [
    (f"{EVENTS}Emit", events_pb2.EmitRequest, events_pb2.EmitResponse),
    (f"{EVENTS}EmitBatch", events_pb2.EmitBatchRequest, events_pb2.EmitBatchResponse),
    (f"{EVENTS}Call", events_pb2.CallRequest, events_pb2.CallResponse),
    (f"{EVENTS}ListScheduled", events_pb2.ListScheduledRequest, events_pb2.ListScheduledResponse),
    (f"{EVENTS}CancelScheduled", events_pb2.CancelScheduledRequest, events_pb2.CancelScheduledResponse),
    (f"{EVENTS}Register", events_pb2.RegisterEventsRequest, events_pb2.RegisterEventsResponse),
    (f"{ACTORS}Register", actors_pb2.RegisterActorsRequest, actors_pb2.RegisterActorsResponse),
]
DECLARES = (f"{EVENTS}Register", f"{ACTORS}Register")
PATIENCE_S = 1.0
"""Some calls may wait for an hour, if they are told to."""


def see_refusal(method: str, error: Any) -> None:
    """See that an error is one of the table, or what the client itself says when it loses patience."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and error.details() == "Deadline Exceeded":
        assert method.endswith("/Call"), error
        return
    told = refused(error)
    assert TABLE[Reason(told.reason)].grpc == told.code == error.code().name
    # what NATS thinks of limits (of memory, of replicas) nobody can foresee
    assert told.code not in ("INTERNAL", "UNKNOWN") or (told.reason == "NATS_ERROR" and method in DECLARES), told
    assert told.message


def see_result(result: events_pb2.EmitResult) -> None:
    if result.WhichOneof("result") == "error":
        told = refused_status(result.error)
        assert TABLE[Reason(told.reason)].grpc == told.code
        assert told.code != "INTERNAL", told
    else:
        assert result.ok.uid == result.uid


async def call(channel: grpc.aio.Channel, method: str, answer: type[Message], raw: bytes) -> None:
    """Call a method that takes one message and answers with one."""
    patience_s = PATIENCE_S if method.endswith("/Call") else 30.0
    try:
        told = await channel.unary_unary(method)(raw, timeout=patience_s)
    except grpc.aio.AioRpcError as error:
        see_refusal(method, error)
        return
    made = answer.FromString(told)
    if isinstance(made, events_pb2.EmitBatchResponse):
        for result in made.items:
            see_result(result)


async def watch(channel: grpc.aio.Channel, raw: bytes) -> None:
    """Watch until the feed has begun, or is refused."""
    feed = channel.unary_stream(f"{EVENTS}Monitor")(raw, timeout=30)
    try:
        if dict(await feed.initial_metadata() or ()).get("walnats-watching") == "1":
            return
        message_pb2.Message.FromString(await feed.read())
    except grpc.aio.AioRpcError as error:
        see_refusal("Monitor", error)
    finally:
        feed.cancel()


def converse(channel: grpc.Channel, method: str, raws: list[bytes]) -> list[bytes]:
    """Say it all on a stream, and hear it to its end.

    Not with grpc.aio, whose client forgets why a call has ended when that happens while it sends.
    """
    heard = []
    try:
        for told in channel.stream_stream(method)(iter(raws), timeout=30):
            heard.append(told)
    except grpc.RpcError as error:
        see_refusal(method, error)
    return heard


async def test_whatever_is_told_over_grpc_the_answer_is_one_of_the_contract(nats, tmp_path) -> None:
    text = config_text(
        nats.url,
        events=[{"name": "counts"}, {"name": "words", "min_actors": 1}],
        actors=[{"name": "listen", "event": "counts"}, {"name": "count", "event": "words", "responds": True}],
    )
    async with process(tmp_path / "daemon", text) as daemon:
        assert daemon.sidecar is not None
        async with grpc.aio.insecure_channel(daemon.sidecar.grpc) as channel:
            for method, request, answer in UNARY:

                async def one(raw: bytes, method: str = method, answer: type[Message] = answer) -> None:
                    await call(channel, method, answer, raw)

                await fuzz.for_all(wires(request, KNOWN), one, short=60, long=1000)
            await fuzz.for_all(
                wires(events_pb2.MonitorRequest, KNOWN), lambda raw: watch(channel, raw), short=20, long=300
            )

        with grpc.insecure_channel(daemon.sidecar.grpc) as blocking:

            async def emit(raws: list[bytes]) -> None:
                for told in await asyncio.to_thread(converse, blocking, f"{EVENTS}EmitStream", raws):
                    see_result(events_pb2.EmitResult.FromString(told))

            async def listen(raws: list[bytes]) -> None:
                for told in await asyncio.to_thread(converse, blocking, f"{ACTORS}Listen", raws):
                    actors_pb2.ListenResponse.FromString(told)

            await fuzz.for_all(st.lists(wires(events_pb2.EmitRequest, KNOWN), max_size=4), emit, short=30, long=500)
            subscribe = actors_pb2.ListenRequest.Subscribe(event="counts", actor="listen", max_in_flight=3)
            begun = st.just([actors_pb2.ListenRequest(subscribe=subscribe).SerializeToString()])
            said = st.lists(wires(actors_pb2.ListenRequest, KNOWN), max_size=4)
            talks = st.tuples(begun | begun | st.just([]), said).map(lambda parts: parts[0] + parts[1])
            await fuzz.for_all(talks, listen, short=60, long=500)
        await fuzz.see_that_it_is_well(daemon, "counts")
    fuzz.see_no_surprise(daemon)
