"""What others wrote, shown on a terminal or in JSON."""

import base64
import re


def harmless(text: str) -> str:
    """Show control characters as what they are: an emitter's words must not steer a terminal."""
    return re.sub(r"[^\n\t -~\u00a0-\U0010ffff]", "�", text)


def payload_json(payload: bytes) -> dict[str, str]:
    """Give a payload as `payload` where it is text, else as `payload_base64`."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}
