"""One stream of `Actors.Listen`: deliveries down, results up."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import DecodeError

from walnatsd.listeners.session import Handover, Session
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.servers.grpc_errors import unreadable
from walnatsd.servers.grpc_message import fill_message, set_time
from walnatsd.v1 import actors_pb2

SUBSCRIBE_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
"""How long a listener may leave the stream unread while there is something for it."""

Context = grpc.aio.ServicerContext[actors_pb2.ListenRequest, actors_pb2.ListenResponse]
Requests = AsyncIterator[actors_pb2.ListenRequest]


async def read_subscription(requests: Requests) -> actors_pb2.ListenRequest.Subscribe:
    """Read the first message.

    Raises:
        Refusal: It is another one, or does not come.
    """
    try:
        async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
            first = await anext(requests, None)
    except TimeoutError:
        first = None
    except DecodeError as error:
        raise unreadable(error) from None
    if first is None or first.WhichOneof("kind") != "subscribe":
        raise Refusal(Reason.INVALID_REQUEST, "the first message of Listen must be subscribe")
    return first.subscribe


async def converse(session: Session, requests: Requests, context: Context) -> None:
    """Send deliveries and take results until one side ends the session.

    Raises:
        Refusal: The session ends from here, and why.
    """
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(_read_all(session, requests))
        why = await _write(session, context)
        reader.cancel()
    if why is not None:
        raise why


async def _write(session: Session, context: Context) -> Refusal | None:
    """Send until the session ends; tells why where that comes from here."""
    response = actors_pb2.ListenResponse()  # a heartbeat: the session has begun
    while True:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await context.write(response)
        except TimeoutError:
            return Refusal(Reason.NOT_READING, f"the listener has not read its stream for {READ_TIMEOUT_S:g} s")
        except grpc.aio.InternalError:
            return None  # the listener has gone
        try:
            handovers = await session.take()
        except Refusal as refusal:
            return refusal
        if handovers is None:
            return None
        response = actors_pb2.ListenResponse()
        for handover in handovers:
            _fill(response.deliveries.add(), handover)


async def _read_all(session: Session, requests: Requests) -> None:
    try:
        await _read(session, requests)
    except DecodeError as error:
        session.end(unreadable(error))
    session.close()


async def _read(session: Session, requests: Requests) -> None:
    """Take results until the listener closes its side."""
    async for request in requests:
        match request.WhichOneof("kind"):
            case "results":
                for result in request.results.items:
                    _answer(session, result)
            case "stop":
                session.stop_taking()
            case "subscribe":
                session.end(Refusal(Reason.INVALID_REQUEST, "a session of Listen subscribes once"))


def _answer(session: Session, result: actors_pb2.ListenRequest.Result) -> None:
    match result.WhichOneof("outcome"):
        case "ack":
            session.acknowledge(result.delivery_id, result.ack.response, result.ack.content_type)
        case "reject":
            session.reject(result.delivery_id, result.reject.reason)
        case "retry":
            retry = result.retry
            after_s = retry.after.seconds + retry.after.nanos / 1e9 if retry.HasField("after") else None
            session.retry(result.delivery_id, after_s, retry.reason)
        case _:
            session.retry(result.delivery_id, None, "the listener's result has no outcome")


def _fill(delivery: actors_pb2.Delivery, handover: Handover) -> None:
    """Write a delivery in place."""
    delivery.delivery_id = handover.id
    delivery.attempt = handover.attempt
    set_time(delivery.deadline, handover.deadline)
    fill_message(delivery.message, handover.message)
