"""One call to the sidecar, however often the connection breaks meanwhile."""

import asyncio
from typing import TypeVar

import grpc

from walnatsd_client._errors import SIDECAR_UNAVAILABLE, UnavailableError, WalnatsdError, answer_of

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_WHY_S = 0.2
# How gRPC says that the connection broke, or that the sidecar is going down and dropped the call.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def call(
    channel: grpc.aio.Channel,
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    *,
    timeout_s: float,
    asked_s: float | None = None,
    uid: str = "",
    maybe_stored: bool = False,
) -> ResponseT:
    """Make a call that may be repeated, and repeat it whenever the connection is lost, until the timeout.

    An answer of the sidecar ends it, good or bad: only the caller knows whether a refusal is worth another try.

    Args:
        channel: Where the sidecar is.
        method: What is called.
        request: What it is called with.
        timeout_s: How long to try.
        asked_s: The timeout that was asked for, where a part of it has passed; the error names it.
        uid: The uid that errors tell.
        maybe_stored: Whether it may have reached the sidecar in another way before.

    Raises:
        WalnatsdError: The sidecar refused, there was no answer in time, or the connection was closed here meanwhile.
    """
    answer, _ = await call_told(
        channel, method, request, timeout_s=timeout_s, asked_s=asked_s, uid=uid, maybe_stored=maybe_stored
    )
    return answer


async def call_told(
    channel: grpc.aio.Channel,
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    *,
    timeout_s: float,
    asked_s: float | None = None,
    uid: str = "",
    maybe_stored: bool = False,
) -> tuple[ResponseT, bool]:
    """Make a call as `call` does, and tell whether it took more than one try."""
    now = asyncio.get_running_loop().time
    deadline = now() + timeout_s
    under_way = maybe_stored  # a request may have reached the sidecar, and no answer came back
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            if not await _is_ready(channel, deadline):
                break
            return await method(request, timeout=deadline - now()), under_way
        except (grpc.aio.UsageError, asyncio.CancelledError) as closed:
            # That is how gRPC says that the channel was closed: before it was ready, or meanwhile.
            if isinstance(closed, asyncio.CancelledError):
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise  # somebody cancelled us
                under_way = True
            raise UnavailableError(
                "the connection was closed here", SIDECAR_UNAVAILABLE, uid=uid, maybe_stored=under_way
            ) from None
        except grpc.aio.AioRpcError as error:
            if answer := answer_of(error):
                answer.uid = answer.uid or uid
                # What an earlier try may have stored, this answer doesn't take back.
                answer.maybe_stored |= under_way
                raise answer from None
            under_way = True
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                break
            if error.code() not in _LOST:
                raise WalnatsdError(
                    error.details() or "the call broke", error.code().name, uid=uid, maybe_stored=True
                ) from error
        await asyncio.sleep(min(pause_s, max(deadline - now(), 0)))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    waited_s = timeout_s if asked_s is None else asked_s
    why = "" if under_way else await _why_not_there(channel)
    raise UnavailableError(
        f"no answer from the sidecar within {waited_s:g} s{why}", SIDECAR_UNAVAILABLE, uid=uid, maybe_stored=under_way
    )


async def _why_not_there(channel: grpc.aio.Channel) -> str:
    """Ask gRPC why there is no connection; it tells only who makes a call. Empty where it does not either."""
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        await ask(b"", timeout=_WHY_S)
    except grpc.aio.AioRpcError as error:
        return f": {error.details()}" if error.code() == grpc.StatusCode.UNAVAILABLE else ""
    except (grpc.aio.UsageError, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    return ""


async def _is_ready(channel: grpc.aio.Channel, deadline: float) -> bool:
    """Wait until there is a connection; False where there is none in time, and thus nothing was sent."""
    try:
        async with asyncio.timeout_at(deadline):
            await channel.channel_ready()
    except TimeoutError:
        return False
    return asyncio.get_running_loop().time() < deadline
