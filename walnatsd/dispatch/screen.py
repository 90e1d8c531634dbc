"""What is decided of a message before anybody is called."""

from walnatsd.model.delay import delay_left_s
from walnatsd.model.message import Message
from walnatsd.model.retry import Cause, DeadLetter, Decision, Retry


class Screen:
    """Looks at the messages of one actor."""

    def look(self, message: Message, *, now: float) -> Decision | Message:
        """Decide what needs no attempt, or give the message as the actor shall see it.

        Args:
            message: As it is stored.
            now: Seconds since the epoch.
        """
        try:
            left_s = delay_left_s(message.headers, now)
        except ValueError as error:
            return DeadLetter(Cause.MALFORMED, str(error))
        if left_s:
            return Retry(left_s, counts=False)
        return message
