"""The token of a connection."""

import os
from collections.abc import Callable
from typing import Any, cast

import grpc

VARIABLE = "WALNATSD_TOKEN"


def token_or_default(token: str | None) -> str | None:
    """Give the token to send: the given one, else that of the environment; None where there is none.

    Args:
        token: None: the one of the environment; empty: none.

    Raises:
        ValueError: It can't be sent. The message does not hold it.
    """
    token, source = (os.environ.get(VARIABLE, "").strip(), VARIABLE) if token is None else (token, "token")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(f"{source} is no token: it has more than visible ASCII characters")
    return token or None


def with_token(channel: grpc.aio.Channel, token: str | None) -> grpc.aio.Channel:
    """Give what stubs are made of, so that each of their calls sends the token; the channel itself where there is none."""
    return channel if token is None else cast("grpc.aio.Channel", _WithToken(channel, token))


class _WithToken:
    """Stands for a channel where stubs are made. gRPC's own way, call credentials, wants TLS, which Unix sockets need not."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        metadata = (("authorization", f"Bearer {token}"),)

        def sending(make: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments, **options: _adding(metadata, make(*arguments, **options))

        self.unary_unary = sending(channel.unary_unary)
        self.unary_stream = sending(channel.unary_stream)
        self.stream_unary = sending(channel.stream_unary)
        self.stream_stream = sending(channel.stream_stream)


def _adding(token: tuple[tuple[str, str], ...], call: Callable[..., Any]) -> Callable[..., Any]:
    def invoke(*arguments: Any, metadata: tuple[tuple[str, str], ...] = (), **options: Any) -> Any:
        return call(*arguments, metadata=token + metadata, **options)

    return invoke
