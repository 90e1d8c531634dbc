"""Standard Webhooks signatures, verified over the raw bytes.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. Its own Python package decodes
the body as text, so it can't verify a binary payload.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping, Sequence

TOLERANCE_S = 300
"""How far the sender's clock may be off, and for how long a captured request can be replayed."""

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix, not a secret
_KEY_LENGTHS = range(24, 65)  # bytes, as the specification says
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def key_of(secret: str) -> bytes:
    """Return the key in a secret as people pass it on: `whsec_` and base64.

    Raises:
        ValueError: It is no such secret. The text doesn't repeat it.
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a webhook secret is whsec_ and base64") from None
    if len(key) not in _KEY_LENGTHS:
        raise ValueError(f"the key in a webhook secret has 24 to 64 bytes, this one has {len(key)}")
    return key


def is_signed(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, now: float) -> bool:
    """Whether one of the keys signed this request, lately.

    Args:
        headers: Headers of the request, with lower-case names.
        body: The raw body.
        keys: Live keys; while a key is being replaced, the old and the new one.
        now: The present time as Unix seconds.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or not _TIMESTAMP.fullmatch(timestamp) or abs(now - int(timestamp)) > TOLERANCE_S:
        return False
    given = [entry.encode(errors="surrogateescape") for entry in headers.get("webhook-signature", "").split(" ")]
    signed = f"{message_id}.{timestamp}.".encode(errors="surrogateescape") + body
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    return any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given)
