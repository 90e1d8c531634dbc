"""Codecs: what is done to a payload between the emitter and the stream. Formats equal those of the walnats library."""

import gzip
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from walnatsd.model.declared import Secret
from walnatsd.model.event import Codec

MAX_DECODED_BYTES = 64 << 20
"""A payload that would grow larger than this is not decompressed."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_GZIP_PIECE_BYTES = 4096
_PADDING = re.compile(rb"\0*")

Reveal = Callable[[Secret], str]


class CodecError(Exception):
    """A stored payload can't be decoded; in words."""


class _Step(Protocol):
    def encode(self, data: bytes) -> bytes: ...

    def decode(self, data: bytes) -> bytes: ...


class Codecs:
    """The codecs of an event: applied in the declared order, undone in reverse."""

    def __init__(self, steps: Sequence[_Step]) -> None:
        self._steps = tuple(steps)

    @property
    def are_none(self) -> bool:
        """Whether payloads are stored as they are emitted."""
        return not self._steps

    def encode(self, payload: bytes) -> bytes:
        """Turn what was emitted into what is stored."""
        for step in self._steps:
            payload = step.encode(payload)
        return payload

    def decode(self, payload: bytes) -> bytes:
        """Turn what is stored into what was emitted.

        Raises:
            CodecError: It was damaged, made with another key, or not encoded at all.
        """
        for step in reversed(self._steps):
            payload = step.decode(payload)
        return payload


def open_codecs(declared: Sequence[Codec], reveal: Reveal) -> Codecs:
    """Make the codecs of an event.

    Args:
        declared: In the order in which they are applied.
        reveal: Gives the value of a secret.

    Raises:
        ValueError: A key, a hash or a library can't be used; in words, without the key.
    """
    return Codecs([_open(codec, reveal) for codec in declared])


def _open(codec: Codec, reveal: Reveal) -> _Step:
    if codec.gzip is not None:
        return _Gzip(codec.gzip.level)
    if codec.hmac is not None:
        return _Hmac([reveal(key).encode() for key in codec.hmac.keys], codec.hmac.hash)
    assert codec.fernet is not None
    return _Fernet([reveal(key) for key in codec.fernet.keys])


class _Gzip:
    def __init__(self, level: int) -> None:
        self._level = level

    def encode(self, data: bytes) -> bytes:
        return gzip.compress(data, self._level, mtime=0)

    def decode(self, data: bytes) -> bytes:
        """Decompress all members of the stream (RFC 1952 section 2.2), up to the limit."""
        parts: list[bytes] = []
        left = MAX_DECODED_BYTES
        place = 0
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            while place < len(data):
                # by pieces, for what follows a member is copied when it ends, and there may be very many members
                piece = data[place : place + _GZIP_PIECE_BYTES]
                parts.append(member.decompress(piece, left + 1))
                left -= len(parts[-1])
                if left < 0:
                    raise CodecError(f"gzip: more than {MAX_DECODED_BYTES >> 20} MiB when decompressed")
                place += len(piece) - len(member.unused_data)
                if member.eof:
                    place = _end_of_padding(data, place)
                    if place == len(data):
                        return b"".join(parts)
                    member = zlib.decompressobj(_GZIP_WINDOW)
        except zlib.error as error:
            raise CodecError(f"gzip: {error}") from None
        raise CodecError("gzip: the data ends too early")


def _end_of_padding(data: bytes, place: int) -> int:
    padding = _PADDING.match(data, place)
    return padding.end() if padding is not None else place


class _Hmac:
    def __init__(self, keys: Sequence[bytes], name: str) -> None:
        if name not in hashlib.algorithms_available:
            raise ValueError(f"hmac: there is no hash {name!r}; one of sha256, sha384, sha512")
        try:
            self._size = hmac.new(keys[0], digestmod=name).digest_size
        except ValueError:
            self._size = 0
        if not self._size:
            raise ValueError(f"hmac: the hash {name!r} can't be used; one of sha256, sha384, sha512")
        self._keys = keys
        self._name = name

    def encode(self, data: bytes) -> bytes:
        return hmac.digest(self._keys[0], data, self._name) + data

    def decode(self, data: bytes) -> bytes:
        digest, data = data[: self._size], data[self._size :]
        if not any(hmac.compare_digest(digest, hmac.digest(key, data, self._name)) for key in self._keys):
            raise CodecError("hmac: not signed with a key known here, or altered")
        return data


class _Fernet:
    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from cryptography import fernet  # noqa: PLC0415 - optional, and 11 MB of memory
        except ImportError:
            raise ValueError("fernet needs the extra fernet; install it with: pip install 'walnatsd[fernet]'") from None
        try:
            self._fernet: Any = fernet.MultiFernet([fernet.Fernet(key) for key in keys])
        except ValueError:
            raise ValueError("fernet: a key is 32 bytes in URL-safe base64") from None
        self._invalid: type[Exception] = fernet.InvalidToken

    def encode(self, data: bytes) -> bytes:
        encrypted: bytes = self._fernet.encrypt(data)
        return encrypted

    def decode(self, data: bytes) -> bytes:
        try:
            decrypted: bytes = self._fernet.decrypt(data)
        except self._invalid:
            raise CodecError("fernet: not encrypted with a key known here, or altered") from None
        return decrypted
