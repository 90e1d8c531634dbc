"""The `Walnats-Reply` header: where an answer goes. It is an emitter's input, so not everywhere."""

from collections.abc import Mapping, Sequence

from walnatsd.model import headers

_NOT_LITERAL = frozenset("*> \t")


def reply_subject(header: Mapping[str, str]) -> str | None:
    """Give the subject that somebody waits on for an answer to a message, None where nobody does."""
    return header.get(headers.REPLY) or None


def may_reply(subject: str, prefixes: Sequence[str]) -> bool:
    """Whether an answer may be published there: to literal subjects under the given prefixes only.

    An answer published to `$JS.API.STREAM.DELETE.x` would delete a stream.
    """
    return (
        subject.startswith(tuple(prefixes))
        and subject.isascii()
        and subject.isprintable()
        and not _NOT_LITERAL & set(subject)
        and all(subject.split("."))
    )
