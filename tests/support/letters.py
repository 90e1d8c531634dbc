"""Looking at what a consumer has left and at the dead letters, behind walnatsd's back."""

from support.nats_server import NatsServer

DEAD_LETTERS = "walnatsd-dead-letters"


async def unsettled(nats: NatsServer, event: str = "counts", actor: str = "print") -> int:
    """Messages of an actor that are not settled."""
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info(event, actor)
        return (info.num_ack_pending or 0) + (info.num_pending or 0)


async def dead_letters(nats: NatsServer) -> list[tuple[dict[str, str], bytes]]:
    """Headers and payloads of all dead letters."""
    async with nats.jetstream() as jetstream:
        info = await jetstream.stream_info(DEAD_LETTERS)
        messages = []
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            message = await jetstream.get_msg(DEAD_LETTERS, sequence)
            messages.append((message.headers or {}, message.data or b""))
        return messages
