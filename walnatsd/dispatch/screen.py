"""What is decided of a message before anybody is called."""

import orjson

from walnatsd.model import headers
from walnatsd.model.actor import Actor
from walnatsd.model.delay import delay_left_s
from walnatsd.model.headers import is_reserved
from walnatsd.model.message import Message
from walnatsd.model.retry import Cause, DeadLetter, Decision, Retry, Skip
from walnatsd.payload import cloudevents, times
from walnatsd.payload.codecs import CodecError, Codecs
from walnatsd.payload.filter import Filter, FilterError


class Screen:
    """Looks at the messages of one actor: may it be handled yet, can it be decoded, did the actor ask for it?"""

    def __init__(self, actor: Actor, codecs: Codecs, *, source: str) -> None:
        """Compile what the actor asks for.

        Args:
            actor: The declaration.
            codecs: Those of its event.
            source: The service's name, where the emitter gave no `ce-source`.
        """
        self._codecs = codecs
        self._match_time = actor.match_time
        self._filter = Filter(actor.filter) if actor.filter is not None else None
        self._source = source
        self._is_choosy = self._match_time is not None or self._filter is not None
        self._takes_all_as_it_is = codecs.are_none and not self._is_choosy

    def look(self, message: Message, *, now: float) -> Decision | Message:
        """Decide what needs no attempt, or give the message as the actor shall see it.

        Args:
            message: As it is stored.
            now: Seconds since the epoch.
        """
        if headers.DELAY in message.headers:
            try:
                if left_s := delay_left_s(message.headers, now):
                    return Retry(left_s, counts=False)
            except ValueError as error:
                return DeadLetter(Cause.MALFORMED, str(error))
        if self._takes_all_as_it_is:
            return message
        try:
            payload = self._codecs.decode(message.payload)
        except CodecError as error:
            return DeadLetter(Cause.CODEC, str(error))
        seen = message if payload is message.payload else message._replace(payload=payload)
        if not self._is_choosy:
            return seen
        return self._what_is_not_asked_for(seen) or seen

    def _what_is_not_asked_for(self, message: Message) -> Decision | None:
        if self._match_time is not None:
            try:
                if not times.matches(self._match_time, times.tick_of(message.payload)):
                    return Skip("match_time")
            except ValueError as error:
                return DeadLetter(Cause.MALFORMED, str(error))
        if self._filter is not None:
            try:
                if not self._filter.matches(_data(message), self._attributes(message), _own_headers(message)):
                    return Skip("filter")
            except FilterError as error:
                return DeadLetter(Cause.FILTER, str(error))
        return None

    def _attributes(self, message: Message) -> dict[str, str]:
        given = cloudevents.attributes(message, source=self._source)
        return {name.removeprefix(cloudevents.PREFIX): cloudevents.decoded(value) for name, value in given.items()}


def _data(message: Message) -> object:
    """Decode a payload; None where it is not JSON."""
    try:
        return orjson.loads(message.payload)
    except orjson.JSONDecodeError:
        return None


def _own_headers(message: Message) -> dict[str, str]:
    """Give the headers that are neither CloudEvents attributes nor anybody's but the emitter's."""
    own = {
        name.lower(): value
        for name, value in message.headers.items()
        if not is_reserved(name) and not name.lower().startswith(cloudevents.PREFIX)
    }
    return own | {"content-type": cloudevents.content_type(message.headers)}
