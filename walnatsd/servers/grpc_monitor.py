"""`Events.Monitor`: a live feed as a stream."""

import asyncio

import grpc

from walnatsd.monitor.watcher import Gap, Seen, Watcher
from walnatsd.servers.grpc_message import fill_message
from walnatsd.v1 import events_pb2, message_pb2

READ_TIMEOUT_S = 10.0
"""How long a watcher may leave the stream unread while there is something for it."""

BEGUN = "walnats-watching"
"""Among the initial metadata: everything that is published from now on is seen."""

Context = grpc.aio.ServicerContext[events_pb2.MonitorRequest, message_pb2.Message]


async def show(watcher: Watcher, context: Context) -> None:
    """Send what is seen until the caller goes away.

    Raises:
        Refusal: The feed ends from here, and why.
    """
    await context.send_initial_metadata(((BEGUN, "1"),))
    while True:
        for seen in await watcher.take():
            if isinstance(seen, Gap):
                continue  # the contract's stream has no word for it
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await context.write(_message(seen))
            except TimeoutError:
                raise watcher.drop(f"it has not read its stream for {READ_TIMEOUT_S:g} s") from None
            except grpc.aio.InternalError:
                return  # the caller has gone


def _message(seen: Seen) -> message_pb2.Message:
    message = message_pb2.Message()
    fill_message(message, seen.message)
    message.codec_error = seen.codec_error  # known since the message was decoded
    return message
