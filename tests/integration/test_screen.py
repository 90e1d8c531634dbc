"""Filters, time matches and codecs between the stream and the actor."""

import json

import pytest
from walnats.serializers import BytesSerializer, HMACSerializer

from support.daemon import config_text, running
from support.nats_server import NatsServer
from support.receiver import Receiver
from support.waiting import until


def one_actor(nats: NatsServer, receiver: Receiver, event: dict[str, object] | None = None, **options: object) -> str:
    actor = {"name": "print", "event": "counts", "url": receiver.url}
    return config_text(nats.url, events=[{"name": "counts"} | (event or {})], actors=[actor | options])


async def settled(nats: NatsServer) -> bool:
    async with nats.jetstream() as jetstream:
        info = await jetstream.consumer_info("counts", "print")
        return not info.num_ack_pending and not info.num_pending


async def letters(nats: NatsServer) -> list[tuple[dict[str, str], bytes]]:
    async with nats.jetstream() as jetstream:
        state = (await jetstream.stream_info("walnatsd-dead-letters")).state
        found = [await jetstream.get_msg("walnatsd-dead-letters", n) for n in range(1, state.last_seq + 1)]
        return [(message.headers or {}, message.data or b"") for message in found]


async def test_only_what_matches_reaches_the_actor_and_the_rest_is_acked_unseen(nats, receiver) -> None:
    text = one_actor(
        nats, receiver,
        filter='data.status == "sent" && ce.source == "/ware house" && headers["x-team"] == "a"',
    )  # fmt: skip
    headers = {"ce-source": "/ware%20house", "walnats-header-X-Team": "a"}
    async with running(text) as sidecar:
        await sidecar.emit("counts", '{"status": "lost"}', headers=headers)
        await sidecar.emit("counts", '{"status": "sent"}', headers=headers | {"ce-source": "/office"})
        await sidecar.emit("counts", '{"status": "sent"}', headers=headers)
        await until(lambda: settled(nats))
        metrics = await sidecar.metrics()
    assert receiver.bodies == [b'{"status": "sent"}']
    assert metrics['walnatsd_skipped_total{actor="print",event="counts",option="filter"}'] == 2
    assert await letters(nats) == []


async def test_a_filter_that_fails_makes_a_dead_letter_and_never_passes_the_message(nats, receiver) -> None:
    async with running(one_actor(nats, receiver, filter='data.status == "sent"')) as sidecar:
        await sidecar.emit("counts", "no json")
        await until(lambda: settled(nats))
        metrics = await sidecar.metrics()
    [(header, _)] = await letters(nats)
    reason = header["walnats-dead-letter-reason"]
    assert reason.startswith("the filter fails: ")
    assert reason.endswith("(data is null, because the payload is null or no JSON)")
    assert header["walnats-dead-letter-attempts"] == "0"
    assert metrics['walnatsd_dead_letters_total{actor="print",cause="filter",event="counts"}'] == 1
    assert receiver.received == []


async def test_match_time_picks_ticks_as_written_in_the_payload(nats, receiver) -> None:
    async with running(one_actor(nats, receiver, match_time={"hour": [0], "minute": [0, 30]})) as sidecar:
        for tick in ("2026-11-24T00:30:00", "2026-11-24T00:31:00", "2026-11-24T12:30:00", "nonsense"):
            await sidecar.emit("counts", tick, headers={"Content-Type": "text/plain"})
        await until(lambda: settled(nats))
    assert receiver.bodies == [b"2026-11-24T00:30:00"]
    [(header, payload)] = await letters(nats)
    assert payload == b"nonsense"
    assert "no ISO 8601 time" in header["walnats-dead-letter-reason"]


async def test_codecs_are_applied_on_emit_and_undone_on_delivery(nats, receiver, tmp_path) -> None:
    (tmp_path / "key").write_text("sesame\n")
    codecs = [{"gzip": {}}, {"hmac": {"keys": [{"file": "key"}]}}]
    payload = json.dumps({"status": "sent"} | {f"k{n}": n for n in range(100)})
    text = one_actor(nats, receiver, {"codecs": codecs}, filter='data.status == "sent"')
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, nats.jetstream() as jetstream:
        await sidecar.emit("counts", payload)
        [received] = await receiver.wait_for(1)
        await until(lambda: settled(nats))
        # what no key of ours signed never reaches the actor
        await jetstream.publish("counts", HMACSerializer(bytes, BytesSerializer(bytes), b"other").encode(b"evil"))
        await jetstream.publish("counts", b"plain")
        await until(lambda: settled(nats))
    assert received.body == payload.encode()
    assert len(receiver.received) == 1
    (first, stored), (second, plain) = await letters(nats)
    assert first["walnats-dead-letter-reason"] == "hmac: not signed with a key known here, or altered"
    assert stored.endswith(b"evil")
    assert (second["walnats-dead-letter-reason"], plain) == (first["walnats-dead-letter-reason"], b"plain")


async def test_what_is_stored_is_not_the_plain_payload(nats, receiver, tmp_path) -> None:
    from cryptography.fernet import Fernet

    (tmp_path / "key").write_bytes(Fernet.generate_key())
    text = one_actor(nats, receiver, {"codecs": [{"fernet": {"keys": [{"file": "key"}]}}]}, max_jobs=1)
    async with running(text, file=str(tmp_path / "walnatsd.yaml")) as sidecar, nats.jetstream() as jetstream:
        subscription = await jetstream._nc.subscribe("counts")
        await jetstream.account_info()  # an answer to what was sent after it: the subscription is there
        await sidecar.emit("counts", "very secret")
        stored = await subscription.next_msg(timeout=5)
        [received] = await receiver.wait_for(1)
    assert b"secret" not in stored.data
    assert received.body == b"very secret"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"filter": "nope == 1"}, "actors[0].filter: not a CEL expression over data, ce and headers: "),
        ({"filter": "1"}, "actors[0].filter: gives int and never true or false"),
        ({"match_time": {"hour": [24]}}, "actors[0].match_time.hour[0]: "),
    ],
)
def test_an_expression_that_cannot_work_is_a_config_error(part, words) -> None:
    from walnatsd.config.load import load_text
    from walnatsd.config.problems import ConfigError

    actor = {"name": "print", "event": "counts", "url": "http://127.0.0.1:1/"} | part
    with pytest.raises(ConfigError) as caught:
        load_text(config_text("nats://127.0.0.1:1", events=[{"name": "counts"}], actors=[actor]), file=None, environ={})
    assert words in str(caught.value)
