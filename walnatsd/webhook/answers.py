"""What an answer means: the table of the contract, section 5."""

import datetime as dt
import email.utils
from functools import lru_cache

from walnatsd.model.outcome import Outcome, Verdict

LONGEST_RETRY_AFTER_S = 3600.0
SAID_LENGTH = 200
"""So much of an answer stands in a reason; the history keeps more."""

_UNAVAILABLE = frozenset({401, 403, 404, 405, 407, 502, 503, 504})
_FAILED = frozenset({408, 409, 425, 429})
_OVERLOADED = frozenset({429, 503})


def judge(status: int, retry_after: str | None, body: str, *, now: float) -> Outcome:
    """Turn an HTTP answer into an outcome.

    Args:
        status: The status code.
        retry_after: The `Retry-After` header.
        body: The beginning of the answer's body, for people.
        now: Seconds since the epoch, for a `Retry-After` that is a date.
    """
    if not body and retry_after is None:
        return _judge_bare(status)
    return _judge(status, retry_after, body, now)


@lru_cache(maxsize=1000)
def _judge_bare(status: int) -> Outcome:
    """Judge what most answers are: a status and nothing else."""
    return _judge(status, None, "", 0.0)


def _judge(status: int, retry_after: str | None, body: str, now: float) -> Outcome:
    said = f"{status}: {body[:SAID_LENGTH]}" if body else f"the actor answered {status}"
    if 200 <= status < 300:
        return Outcome(Verdict.ACKNOWLEDGED, said, status, answer=body)
    if status == 410:
        return Outcome(Verdict.GONE, said, status, answer=body)
    wait_s = retry_after_s(retry_after, now=now)
    if 300 <= status < 400:
        said = f"{said} (a redirect; redirects are never followed)"
        return Outcome(Verdict.UNAVAILABLE, said, status, wait_s, answer=body)
    overloaded = status in _OVERLOADED
    holds_actor = overloaded and wait_s is not None
    if status in _UNAVAILABLE:
        return Outcome(Verdict.UNAVAILABLE, said, status, wait_s, holds_actor, overloaded, body)
    if status in _FAILED or (500 <= status < 600 and status != 501):
        return Outcome(Verdict.FAILED, said, status, wait_s, holds_actor, overloaded, body)
    if 400 <= status < 500 or status == 501:
        return Outcome(Verdict.REJECTED, said, status, answer=body)
    return Outcome(Verdict.FAILED, f"{said} (no status of HTTP)", status, answer=body)


def retry_after_s(value: str | None, *, now: float) -> float | None:
    """Read a `Retry-After` of seconds or a date, bounded to an hour; nonsense counts as none."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    try:
        date = email.utils.parsedate_to_datetime(text)
        # an asctime date has no zone and means UTC (RFC 9110 section 5.6.7)
        seconds = (date if date.tzinfo else date.replace(tzinfo=dt.UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)
