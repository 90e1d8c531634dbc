"""Signing requests: Standard Webhooks, symmetric form.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Sequence


def signature_headers(keys: Sequence[bytes], webhook_id: str, body: bytes, *, now: float) -> dict[str, str]:
    """Give the headers that sign one attempt.

    Args:
        keys: The live keys, newest first; each gives a signature, so that receivers can change theirs meanwhile.
        webhook_id: The same on every attempt.
        body: The raw body.
        now: When the attempt is made, in seconds since the epoch; verifiers refuse one that is 5 minutes off.
    """
    timestamp = str(int(now))
    signed = b".".join((webhook_id.encode(), timestamp.encode(), body))
    signatures = [f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys]
    return {"webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}
