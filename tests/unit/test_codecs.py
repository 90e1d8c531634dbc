"""Codecs: the formats of the walnats library, several live keys, bounded decompression."""

import gzip
import random
import zlib

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from walnats.serializers import BytesSerializer, FernetSerializer, GZipSerializer, HMACSerializer

from walnatsd.model.declared import Secret
from walnatsd.model.event import Codec
from walnatsd.payload import codecs
from walnatsd.payload.codecs import CodecError, Codecs, open_codecs

KEYS = {"NEW": "new key", "OLD": "old key", "F1": Fernet.generate_key().decode(), "F2": Fernet.generate_key().decode()}


def opened(*declared: dict[str, object]) -> Codecs:
    def reveal(secret: Secret) -> str:
        return KEYS[secret.env or ""]

    return open_codecs([Codec.model_validate(each) for each in declared], reveal)


HMAC = {"hmac": {"keys": [{"env": "NEW"}]}}
FERNET = {"fernet": {"keys": [{"env": "F1"}]}}
GZIP = {"gzip": {"level": 6}}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([GZIP], GZipSerializer(bytes, BytesSerializer(bytes))),
        ([HMAC], HMACSerializer(bytes, BytesSerializer(bytes), b"new key")),
        (
            [{"hmac": HMAC["hmac"] | {"hash": "sha256"}}],
            HMACSerializer(bytes, BytesSerializer(bytes), b"new key", "sha256"),
        ),
        ([FERNET], FernetSerializer(bytes, BytesSerializer(bytes), KEYS["F1"])),
        (
            [GZIP, HMAC, FERNET],
            FernetSerializer(
                bytes, HMACSerializer(bytes, GZipSerializer(bytes, BytesSerializer(bytes)), b"new key"), KEYS["F1"]
            ),
        ),
    ],
    ids=["gzip", "hmac", "hmac-sha256", "fernet", "stacked"],
)
def test_formats_equal_those_of_walnats_in_both_directions(ours: list[dict[str, object]], theirs) -> None:
    codecs = opened(*ours)
    for payload in (b"", b"x", b'{"a": 1}' * 1000, bytes(range(256))):
        assert theirs.decode(codecs.encode(payload)) == payload
        assert codecs.decode(theirs.encode(payload)) == payload


@given(st.binary(max_size=2000))
def test_what_is_encoded_is_decoded(payload: bytes) -> None:
    codecs = opened(GZIP, HMAC, FERNET)
    assert codecs.decode(codecs.encode(payload)) == payload


def test_the_newest_key_encodes_and_all_keys_decode() -> None:
    for old, new in (
        (HMAC, {"hmac": {"keys": [{"env": "OLD"}, {"env": "NEW"}]}}),
        (FERNET, {"fernet": {"keys": [{"env": "F2"}, {"env": "F1"}]}}),
    ):
        assert opened(new).decode(opened(old).encode(b"x")) == b"x"
        with pytest.raises(CodecError, match="key known here"):
            opened(old).decode(opened(new).encode(b"x"))


@pytest.mark.parametrize("declared", [GZIP, HMAC, FERNET], ids=["gzip", "hmac", "fernet"])
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_words(declared: dict[str, object], data: bytes) -> None:
    with pytest.raises(CodecError, match=f"^{next(iter(declared))}: "):
        opened(declared).decode(data)


def test_a_damaged_or_unfinished_gzip_stream_is_refused() -> None:
    whole = gzip.compress(b"payload" * 100)
    for data in (whole[:-1], whole[:20], b"", whole + b"garbage", whole[:-4] + b"\0\0\0\0"):
        with pytest.raises(CodecError, match=r"^gzip: "):
            opened(GZIP).decode(data)
    assert opened(GZIP).decode(whole + whole + b"\0\0") == b"payload" * 200


def test_a_bomb_is_not_decompressed_beyond_the_limit(monkeypatch) -> None:
    monkeypatch.setattr(codecs, "MAX_DECODED_BYTES", 1 << 20)
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(50)) + compressor.flush()
    with pytest.raises(CodecError, match="more than 1 MiB"):
        opened(GZIP).decode(bomb)
    assert len(opened(GZIP).decode(gzip.compress(bytes(1 << 20)))) == 1 << 20


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"hmac": {"keys": [{"env": "NEW"}], "hash": "nope"}}, "no hash 'nope'"),
        ({"hmac": {"keys": [{"env": "NEW"}], "hash": "shake_128"}}, "can't be used"),
        ({"fernet": {"keys": [{"env": "NEW"}]}}, "32 bytes in URL-safe base64"),
    ],
)
def test_a_key_or_hash_that_cannot_be_used_is_refused_without_being_repeated(declared, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        opened(declared)
    assert "new key" not in str(caught.value)


def test_gzip_of_very_many_members_is_read_once_and_not_once_for_each_member(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = 0

    class Counting:
        def __init__(self, window: int) -> None:
            self._member = zlib.decompressobj(window)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal handed
            handed += len(data)
            return self._member.decompress(data, most)

        def __getattr__(self, name: str) -> object:
            return getattr(self._member, name)

    class Zlib:
        error = zlib.error
        decompressobj = Counting

    monkeypatch.setattr(codecs, "zlib", Zlib)
    payload = gzip.compress(b"") * 10_000 + gzip.compress(b"x")
    assert opened(GZIP).decode(payload) == b"x"
    assert handed < 10_000 * (len(payload) // 10)


@pytest.mark.parametrize("size", [1, 4000, 4096, 5000, 100_000])
def test_gzip_members_are_read_wherever_they_begin(size: int) -> None:
    noise = random.Random(size).randbytes(size)
    payload = gzip.compress(noise) + b"\0" * size + gzip.compress(b"") + gzip.compress(noise) + b"\0" * size
    assert opened(GZIP).decode(payload) == noise * 2
    with pytest.raises(CodecError, match="too early"):
        opened(GZIP).decode(gzip.compress(noise)[:-1])
    with pytest.raises(CodecError, match="too early"):
        opened(GZIP).decode(b"")
