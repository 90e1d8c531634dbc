"""Signing secrets, as the Standard Webhooks specification writes them."""

import base64
import binascii

PREFIX = "whsec_"
KEY_LENGTHS = range(24, 65)


def signing_key(secret: str) -> bytes:
    """Give the key in a secret: `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        ValueError: It is no such secret; the text does not repeat it.
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a signing secret is {PREFIX} and base64") from None
    if len(key) not in KEY_LENGTHS:
        raise ValueError(
            f"the key in a signing secret has {KEY_LENGTHS[0]} to {KEY_LENGTHS[-1]} bytes, this one has {len(key)}"
        )
    return key
