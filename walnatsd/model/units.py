"""Durations and sizes as people write them in a config file."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

_DURATION_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_duration(value: object) -> object:
    """Turn `250ms`, `30s`, `5m`, `2h`, `7d` or a number of seconds into seconds.

    Raises:
        ValueError: The text is no duration.
    """
    if isinstance(value, bool):
        raise ValueError("write a duration as seconds or like 250ms, 30s, 5m, 2h, 7d")  # noqa: TRY004 - pydantic takes ValueError
    if not isinstance(value, str):
        return value
    match = _NUMBER_AND_UNIT.fullmatch(value)
    unit = (match[2] or "s") if match else ""
    if match is None or unit not in _DURATION_UNITS_S:
        raise ValueError("write a duration as seconds or like 250ms, 30s, 5m, 2h, 7d")
    return float(match[1]) * _DURATION_UNITS_S[unit]


def parse_size(value: object) -> object:
    """Turn `64KiB`, `10MiB`, `1GiB` or a number of bytes into bytes.

    Raises:
        ValueError: The text is no size.
    """
    if isinstance(value, bool):
        raise ValueError("write a size as bytes or like 64KiB, 10MiB, 1GiB")  # noqa: TRY004 - pydantic takes ValueError
    if not isinstance(value, str):
        return value
    match = _NUMBER_AND_UNIT.fullmatch(value)
    if match is None or match[2] not in _SIZE_UNITS_BYTES:
        raise ValueError("write a size as bytes or like 64KiB, 10MiB, 1GiB")
    return int(Decimal(match[1]) * _SIZE_UNITS_BYTES[match[2]])


_DURATION_SCHEMA = WithJsonSchema(
    {
        "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)?$"}],
        "description": "seconds as a number, or like 250ms, 30s, 5m, 2h, 7d",
    }
)
_SIZE_SCHEMA = WithJsonSchema(
    {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^\d+(\.\d+)?(B|KiB|MiB|GiB|TiB)?$"},
        ],
        "description": "bytes as a number, or like 64KiB, 10MiB, 1GiB",
    }
)

_LONGEST_S = 9e9  # NATS counts nanoseconds in 64 bits

Duration = Annotated[
    float, BeforeValidator(parse_duration), Field(ge=0, le=_LONGEST_S, allow_inf_nan=False), _DURATION_SCHEMA
]
"""Seconds, zero or more."""

PositiveDuration = Annotated[
    float, BeforeValidator(parse_duration), Field(gt=0, le=_LONGEST_S, allow_inf_nan=False), _DURATION_SCHEMA
]
"""Seconds, more than zero."""

Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, lt=1 << 63), _SIZE_SCHEMA]
"""Bytes, more than zero."""
