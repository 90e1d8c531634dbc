"""What NATS does not let this user do. It says so beside the requests, so that who waits for an answer gets none."""

import re
from collections.abc import Callable, Iterable

from walnatsd.observe.sparingly import Sparingly

REMEMBERED_S = 60.0
"""So long after NATS said it, silence is explained by it: permissions may be given while the connection lasts."""
REPEAT_S = 30.0
PAGE = "docs/operating/nats-permissions.md"

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"\s]+)', re.IGNORECASE)


class Denied:
    """Remembers what was denied, by subject."""

    def __init__(self, inbox: str, inbox_prefix: str, now: Callable[[], float]) -> None:
        """Begin with nothing.

        Args:
            inbox: What the subjects of our own replies begin with.
            inbox_prefix: `nats.inbox_prefix`.
            now: A clock, in seconds.
        """
        self._inbox = inbox
        self._prefix = inbox_prefix
        self._now = now
        self._at: dict[tuple[str, str], float] = {}
        self._complaints = Sparingly(REPEAT_S, now)
        self.spellings: set[str] = set()
        """Subjects as they are written: the nats library gives them in lower case. For those that no answer is waited for."""

    def note(self, error: str, asked: Iterable[str]) -> str | None:
        """Take word of an error.

        Args:
            error: What the library tells.
            asked: The subjects of requests that wait for an answer, for the spelling.

        Returns:
            What to allow, in words, empty where that was said a moment ago; None where it is another kind of error.
        """
        if (found := _VIOLATION.search(error)) is None:
            return None
        verb, subject = found[1].lower(), found[2]
        denied = (verb, _general(subject).lower())
        self._at[denied] = self._now()
        if not self._complaints.may_say(denied):
            return ""
        if verb == "subscription":
            return self._to_subscribe(subject)
        spelled = {each.lower(): each for each in map(_general, (*self.spellings, *asked))}
        return _to_publish(spelled.get(denied[1], _general(subject)))

    def why_silent(self, subject: str) -> str | None:
        """Say which permission lacks where a subject gets no answer; None where none is known to lack."""
        now = self._now()
        for (verb, denied), at in list(self._at.items()):
            if now - at > REMEMBERED_S:
                del self._at[verb, denied]
            elif verb == "publish" and denied == _general(subject).lower():
                return _to_publish(_general(subject))
            elif verb == "subscription" and denied.startswith(self._inbox.lower()):
                return self._to_subscribe(denied)
        return None

    def _to_subscribe(self, subject: str) -> str:
        if subject.lower().startswith(f"{self._prefix.lower()}."):
            subject = f"{self._prefix}.>"
        else:
            subject = next((each for each in self.spellings if each.lower() == subject.lower()), subject)
        return f"NATS does not let this user subscribe to {subject!r}; allow it ({PAGE})"


def _general(subject: str) -> str:
    """Give what to allow: each settlement has a subject of its own."""
    return ".".join([*subject.split(".")[:4], ">"]) if subject.upper().startswith("$JS.ACK.") else subject


def _to_publish(subject: str) -> str:
    return f"NATS does not let this user publish to {subject!r}; allow it ({PAGE})"
