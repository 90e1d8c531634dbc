"""The nats library's parser, without its price per message.

The library matches up to seven patterns against a buffer that it shortens in front again and again, and hands each message
through a coroutine. What arrives here is mostly short and comes in crowds: PubAcks. So messages for who takes frames are cut
out of what was read in one pass; all else (PING, INFO, errors, messages for the library's own subscriptions) is given to the
library one whole operation at a time.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from walnatsd.broker.wire import Frame, made

Sink = Callable[[Frame], None]
Tally = Callable[[Frame, int], None]
"""Takes a frame that came so many times in a row."""

_END = b"\r\n"
_WITH_HEAD = 6
_MESSAGES = {b"MSG": 5, b"HMSG": _WITH_HEAD}
"""Words in the line of a message that wants an answer: `MSG subject sid [reply] size`, `HMSG subject sid [reply] head-size
size`."""


class FrameParser(Parser):
    """Reads what the server sends, however it is split."""

    def __init__(
        self, client: Any, sinks: Mapping[bytes, Sink], tallies: Mapping[bytes, Tally] = MappingProxyType({})
    ) -> None:
        """Prepare to parse for a client.

        Args:
            client: The library's, with `fail_sink` for what a sink raises.
            sinks: Who takes the frames of a subscription, by its id as it stands in the line of a message.
            tallies: Where one of them is told of empty messages that are all the same, but for the first, at once.
        """
        self._rest = bytearray()
        self._whole = 0
        super().__init__(client)
        self._sinks = sinks
        self._tallies = tallies

    def reset(self) -> None:
        """Forget what was read: it belongs to a connection that is gone."""
        super().reset()
        self._rest = bytearray()
        """The beginning of an operation whose end was not read yet."""
        self._whole = 0
        """How long it will be; 0 where nobody knows yet."""

    async def parse(self, data: bytes = b"") -> None:  # noqa: C901, PLR0912 - one pass without calls
        """Take in what was read.

        Raises:
            ProtocolError: This is not the protocol of NATS.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._whole:  # a large message, which comes in many pieces
                return
            data = bytes(rest)
            rest.clear()
        self._whole = place = 0
        sinks, find, size = self._sinks, data.find, len(data)
        while place < size:
            if (eol := find(_END, place)) < 0:
                break
            words = data[place:eol].split()
            end = start = middle = eol + 2
            sink, absent = None, 0
            if words and (in_full := _MESSAGES.get(words[0])):
                try:
                    if in_full == _WITH_HEAD:
                        middle += int(words[-2])
                    end = start + int(words[-1]) + 2
                    sink = sinks.get(words[2])
                except (ValueError, IndexError):
                    raise ProtocolError("nats: malformed MSG") from None
                absent = in_full - len(words)
                if not start <= middle <= end - 2 or absent not in (0, 1):
                    raise ProtocolError("nats: malformed MSG")
                if end > size:
                    self._whole = end - place
                    break
            if sink is None:
                await super().parse(data[place:end])
                if self._rest is not rest:
                    return  # the connection was given up meanwhile, and what is left belongs to it
                if self.buf:
                    raise ProtocolError("nats: unknown protocol")
            else:
                subject = words[1].decode("utf-8", "replace")  # whoever publishes can write what is no UTF-8 into it
                reply = "" if absent else words[3].decode("utf-8", "replace")
                frame = made(Frame, (subject, reply, data[middle : end - 2], data[start:middle]))
                try:
                    sink(frame)
                    if end == start + 2 and (tally := self._tallies.get(words[2])) is not None:
                        # nothing but a line: acks of a batch are confirmed by as many of the same
                        end, times = _skip_same(data, data[place:end], end)
                        if times:
                            tally(frame, times)
                except Exception as error:  # noqa: BLE001 - told to who asked for it; it would end the read loop
                    self.nc.fail_sink(error)
            place = end
        rest += data[place:]


def _skip_same(data: bytes, line: bytes, place: int) -> tuple[int, int]:
    """Go past a line as often as it stands there; gives the place behind and how often that was."""
    times = 0
    while data.startswith(line, place):
        place += len(line)
        times += 1
    return place, times
