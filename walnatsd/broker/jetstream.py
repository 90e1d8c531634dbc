"""JetStream's API as raw requests, so that settings that the nats library does not know survive a round trip."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError, NoRespondersError

API_TIMEOUT_S = 5.0
STREAM_REMAINS_S = 1.0
CONSUMER_REMAINS_S = 0.25
"""How long to wait after something was found to be deleted before it is created again.

The server goes on removing files after it has said that there is no such stream or consumer. What is created meanwhile
loses its files: such a stream never acknowledges anything, such a consumer is gone after a restart (nats-server 2.15.1,
tried). Messages are not kept while an event has no consumer, so its wait is short.
"""


class JetStream:
    """Requests to `$JS.API`, or to `$JS.<domain>.API`."""

    def __init__(self, connection: Connection, domain: str | None = None) -> None:
        self._connection = connection
        self._prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        self._seen: set[str] = set()
        self._creatable_at: dict[str, float] = {}
        self._api_level: int | None = None
        connection.on_change(self._forget_api_level)

    @property
    def prefix(self) -> str:
        """What API subjects begin with."""
        return self._prefix

    async def request(self, operation: str, body: Any = None, *, timeout_s: float = API_TIMEOUT_S) -> dict[str, Any]:
        """Ask the API, for example `STREAM.INFO.counts`.

        Raises:
            ApiError: The API answered with an error.
            BrokerError: It did not answer.
        """
        payload = orjson.dumps(body) if body is not None else b""
        created = operation.partition(".CREATE.")[2]
        if (at := self._creatable_at.get(created)) is not None:
            await asyncio.sleep(at - asyncio.get_running_loop().time())
        try:
            frame = await self._connection.request(f"{self._prefix}.{operation}", payload, timeout_s=timeout_s)
        except NoRespondersError:
            raise NoRespondersError(
                f"nobody answers on {self._prefix}: JetStream is not enabled on this server or account"
                + (", or the domain is wrong" if self._prefix != "$JS.API" else "")
            ) from None
        answer: dict[str, Any] = orjson.loads(frame.payload)
        if error := answer.get("error"):
            raise ApiError(error.get("code", 500), error.get("err_code", 0), error.get("description", "unknown error"))
        if created:
            self._seen.add(created)
            self._creatable_at.pop(created, None)
        return answer

    async def api_level(self) -> int:
        """What the server's API can do: 0 before nats-server 2.11, 1 from 2.11, 2 from 2.12 (ADR-44).

        Raises:
            BrokerError: It did not answer.
        """
        if self._api_level is None:
            self._api_level = (await self.request("INFO")).get("api", {}).get("level", 0)
        return self._api_level

    def _forget_api_level(self, _connected: bool) -> None:
        self._api_level = None  # another server may answer after a reconnect

    async def stream(self, name: str) -> dict[str, Any] | None:
        """Read a stream's info (config and state), None where there is no such stream."""
        info = await self._info(f"STREAM.INFO.{name}", STREAM_NOT_FOUND)
        if info is None:  # its consumers are gone with it, and need no wait of their own
            consumers = f"{name}."
            self._seen = {seen for seen in self._seen if not seen.startswith(consumers)}
            self._creatable_at = {it: at for it, at in self._creatable_at.items() if not it.startswith(consumers)}
        self._note(name, info, STREAM_REMAINS_S)
        return info

    async def consumer(self, stream: str, name: str) -> dict[str, Any] | None:
        """Read a consumer's info, None where there is no such consumer or stream."""
        info = await self._info(f"CONSUMER.INFO.{stream}.{name}", STREAM_NOT_FOUND, CONSUMER_NOT_FOUND)
        self._note(f"{stream}.{name}", info, CONSUMER_REMAINS_S)
        return info

    async def update_consumer(self, stream: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        """Give a consumer another config. It must be a whole one: what is left out falls back to its default.

        Raises:
            ApiError: The server does not accept it, or there is no such consumer.
            BrokerError: It did not answer.
        """
        body = {"stream_name": stream, "action": "update", "config": config}
        return await self.request(f"CONSUMER.CREATE.{stream}.{name}", body)

    async def _info(self, operation: str, *missing: int) -> dict[str, Any] | None:
        try:
            return await self.request(operation)
        except ApiError as error:
            if error.err_code in missing:
                return None
            raise

    def _note(self, name: str, info: dict[str, Any] | None, remains_s: float) -> None:
        """Take note of what is there, and of what was there and is not any more."""
        if info is not None:
            self._seen.add(name)
            self._creatable_at.pop(name, None)
        elif name in self._seen:
            self._seen.discard(name)
            self._creatable_at[name] = asyncio.get_running_loop().time() + remains_s
