"""JetStream's API as raw requests, so that settings that the nats library does not know survive a round trip."""

from typing import Any

import orjson

from walnatsd.broker.connection import Connection
from walnatsd.broker.errors import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError, NoRespondersError

API_TIMEOUT_S = 5.0


class JetStream:
    """Requests to `$JS.API`, or to `$JS.<domain>.API`."""

    def __init__(self, connection: Connection, domain: str | None = None) -> None:
        self._connection = connection
        self._prefix = f"$JS.{domain}.API" if domain else "$JS.API"
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
        try:
            return await self.request(f"STREAM.INFO.{name}")
        except ApiError as error:
            if error.err_code == STREAM_NOT_FOUND:
                return None
            raise

    async def consumer(self, stream: str, name: str) -> dict[str, Any] | None:
        """Read a consumer's info, None where there is no such consumer or stream."""
        try:
            return await self.request(f"CONSUMER.INFO.{stream}.{name}")
        except ApiError as error:
            if error.err_code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                return None
            raise
