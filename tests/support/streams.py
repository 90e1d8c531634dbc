"""Looking into streams with the plain library."""

import base64
import json

from support.cluster import Cluster
from support.nats_server import NatsServer


async def keep_messages(nats: NatsServer, stream: str = "counts") -> None:
    """Add a consumer: on interest retention nothing is stored without one."""
    async with nats.jetstream() as jetstream:
        await jetstream.add_consumer(stream, durable_name="keeper")


async def stored(nats: NatsServer | Cluster, stream: str = "counts") -> list[tuple[bytes, dict[str, str]]]:
    """All messages of a stream: payload and headers, as the server has them."""
    async with nats.jetstream() as jetstream:
        state = (await jetstream.stream_info(stream)).state
        messages = []
        for sequence in range(max(1, state.first_seq), state.last_seq + 1):
            body = json.dumps({"seq": sequence}).encode()
            message = (await jetstream._api_request(f"$JS.API.STREAM.MSG.GET.{stream}", body))["message"]
            lines = base64.b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]
            pairs = (line.split(":", 1) for line in lines if line)
            payload = base64.b64decode(message.get("data", ""))
            messages.append((payload, {name: value.strip() for name, value in pairs}))
        return messages
