"""What Python's json reads, and JSON (RFC 8259) does not have."""

from typing import NoReturn


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN, Infinity and -Infinity (section 6): a hook for `json.loads`.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is no number of JSON")
