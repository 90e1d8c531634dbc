"""Text that travels in headers."""

import re

MAX_LENGTH = 1024


def one_line(text: str) -> str:
    """Write any text as a header value: printable ASCII, bounded."""
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:MAX_LENGTH].strip()
