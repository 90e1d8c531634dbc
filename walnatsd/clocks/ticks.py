"""What a tick becomes: a message of its event."""

from collections.abc import Callable

from walnatsd.broker.clock_schedules import is_tick, read_tick
from walnatsd.broker.schedules import DueMessage, ElsewhereError, read_due
from walnatsd.model import headers
from walnatsd.model.event import Codec, Event
from walnatsd.model.message import Message
from walnatsd.model.rhythm import open_zone
from walnatsd.payload import times
from walnatsd.payload.cloudevents import rfc3339
from walnatsd.payload.codecs import Codecs


class Ticks:
    """Makes the messages of ticks."""

    def __init__(
        self, find_event: Callable[[str], Event | None], codecs_for: Callable[[tuple[Codec, ...]], Codecs]
    ) -> None:
        """Prepare.

        Args:
            find_event: Finds a declared event.
            codecs_for: Gives the codecs of an event.
        """
        self._find_event = find_event
        self._codecs_for = codecs_for

    def read_due(self, message: Message) -> DueMessage:
        """Read what is due: a tick, or a delayed emit.

        Which tick it is follows from when it fired: the last one until then, by the server's time. So what nats-server
        missed while it was away is one tick when it is back, and a tick that is handed over twice has one uid.

        Raises:
            ElsewhereError: Its event has codecs and is not declared here, or its time zone is not known here.
            ValueError: It does not say what it is.
        """
        if not is_tick(message.headers):
            return read_due(message)
        fired = read_tick(message.headers)
        event = self._find_event(fired.event)
        codecs = event.codecs if event is not None else ()
        if fired.is_encoded and not codecs:
            raise ElsewhereError(f"{fired.event!r} has codecs and is not declared here")
        try:
            zone = open_zone(fired.timezone)
        except ValueError as error:
            raise ElsewhereError(str(error)) from None
        at = fired.rhythm.floor(int(message.stored_at))
        header = {
            headers.MESSAGE_ID: f"clock:{fired.event}:{at}",
            headers.CONTENT_TYPE: times.CONTENT_TYPE,
            "ce-time": rfc3339(at),
        }
        payload = self._codecs_for(codecs).encode(times.tick_text(at, zone))
        return DueMessage(fired.event, payload, header, float(at), is_tick=True)
