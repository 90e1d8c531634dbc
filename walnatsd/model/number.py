"""Whole numbers that others wrote."""

_MAX_DIGITS = 19
"""As many as a sequence of JetStream ever has."""


def read_number(text: str | None) -> int | None:
    """Read a whole number that is not below zero; None where the text is none, or longer than any sequence."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
