"""Tokens of several scopes, and calling with them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc

from support.daemon import Sidecar, config_text
from support.grpc_calls import refused

SCOPES = ("emit", "act", "admin")


def bearer(token: str) -> dict[str, str]:
    """The header of HTTP."""
    return {"Authorization": f"Bearer {token}"}


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of gRPC."""
    return (("authorization", f"Bearer {token}"),)


def token_of(*scopes: str) -> str:
    """The token that has just these scopes in `guarded_text`."""
    return f"token-of-{'-'.join(scopes)}"


def guarded_text(nats_url: str, folder: Path, **parts: Any) -> str:
    """A config with a token for each scope, each in a file named after it."""
    tokens = []
    for scope in SCOPES:
        (folder / scope).write_text(token_of(scope))
        tokens.append({"token": {"file": scope}, "scopes": [scope]})
    return config_text(nats_url, auth={"tokens": tokens}, events=[{"name": "counts"}], **parts)


async def grpc_reason(call: Any) -> str:
    """Why a call over gRPC is refused; "" where it is not, whatever else becomes of it within a moment."""
    try:
        async with asyncio.timeout(5):
            if hasattr(call, "read"):
                await call.read()
            else:
                await call
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return refused(error).reason
    finally:
        call.cancel()
    return ""


async def http_reason(sidecar: Sidecar, method: str, url: str, headers: dict[str, str]) -> tuple[int, str, str]:
    """The status of a call, why it is refused for want of access, and the challenge."""
    async with sidecar.session.request(method, url, headers=headers) as response:
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status not in (401, 403):
            return response.status, "", challenge
        if method == "head":
            return response.status, {401: "TOKEN", 403: "SCOPE"}[response.status], challenge
        return response.status, (await response.json(content_type=None))["reason"], challenge
