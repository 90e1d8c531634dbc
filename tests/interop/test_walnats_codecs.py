"""Codecs with the walnats library on the other side of NATS: what either encodes, the other reads."""

import walnats
from cryptography.fernet import Fernet
from walnats.serializers import FernetSerializer, GZipSerializer, HMACSerializer, PrimitiveSerializer

from support.daemon import config_text, running

HMAC_KEY = b"secret"
FERNET_KEY = Fernet.generate_key()
SCANS = walnats.Event(
    "scans",
    dict,
    serializer=FernetSerializer(
        dict,
        HMACSerializer(dict, GZipSerializer(dict, PrimitiveSerializer(dict)), key=HMAC_KEY, hash_algorithm="sha256"),
        key=FERNET_KEY,
    ),
)
DECLARED = {
    "name": "scans",
    "codecs": [
        {"gzip": {"level": 9}},
        {"hmac": {"keys": [{"env": "HMAC_KEY"}], "hash": "sha256"}},
        {"fernet": {"keys": [{"env": "FERNET_KEY"}]}},
    ],
}


ENVIRON = {"HMAC_KEY": HMAC_KEY.decode(), "FERNET_KEY": FERNET_KEY.decode()}


async def test_a_webhook_gets_what_walnats_encoded_in_the_clear(nats, receiver) -> None:
    actor = {"name": "print", "event": "scans", "url": receiver.url}
    async with running(config_text(nats.url, events=[DECLARED], actors=[actor]), environ=ENVIRON):
        async with walnats.Events(SCANS).connect(nats.url) as walnats_side:
            await walnats_side.emit(SCANS, {"parcel": 7}, sync=True)
        [received] = await receiver.wait_for(1)
    assert received.body == b'{"parcel":7}'


async def test_a_walnats_actor_reads_what_the_sidecar_encoded(nats) -> None:
    seen: list[dict[str, int]] = []
    actors = walnats.Actors(walnats.Actor("print", SCANS, seen.append))
    text = config_text(nats.url, events=[DECLARED])
    async with running(text, environ=ENVIRON) as sidecar, actors.connect(nats.url) as walnats_side:
        await walnats_side.register()
        await sidecar.emit("scans", '{"parcel": 7}')
        await walnats_side.listen(burst=True, poll_delay=10)
    assert seen == [{"parcel": 7}]
