"""The `Walnats-Delay` header: until when nobody may handle a message."""

import math
from collections.abc import Mapping

from walnatsd.model import headers

NEGLIGIBLE_S = 0.001


def delay_left_s(header: Mapping[str, str], now: float) -> float:
    """Give the seconds that a message must still wait, 0 where it may be handled.

    Raises:
        ValueError: The header is no finite number, in words.
    """
    text = header.get(headers.DELAY)
    if text is None:
        return 0.0
    try:
        until = float(text)
    except ValueError:
        until = math.nan
    if not math.isfinite(until):
        raise ValueError(f"the header {headers.DELAY} is no finite number of seconds: {text[:100]!r}")
    left_s = until - now
    return left_s if left_s > NEGLIGIBLE_S else 0.0
