"""Durations and sizes as people write them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from walnatsd.model.units import Duration, PositiveDuration, Size

DURATION = TypeAdapter(Duration)
SIZE = TypeAdapter(Size)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0), (0.5, 0.5), (15, 15), ("0", 0), ("1.5", 1.5), ("250ms", 0.25), ("30s", 30), ("5m", 300), ("2h", 7200),
        ("7d", 604800), ("1.5h", 5400), (" 1 s ", 1),
    ],
)  # fmt: skip
def test_a_duration_is_seconds_or_a_number_with_a_unit(written, seconds) -> None:
    assert DURATION.validate_python(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1, 1), ("1", 1), ("7B", 7), ("64KiB", 65536), ("10MiB", 10485760), ("1GiB", 1 << 30), ("2TiB", 2 << 40),
        ("1.5KiB", 1536), ("9007199254740993", 9007199254740993), (" 1 KiB ", 1024),
    ],
)  # fmt: skip
def test_a_size_is_bytes_or_a_number_with_a_unit(written, size) -> None:
    assert SIZE.validate_python(written) == size


@pytest.mark.parametrize(
    "written",
    [
        -1,
        "-1s",
        "1w",
        "s",
        "",
        "1m30s",
        "\u0661s",
        "1e3",
        True,
        None,
        [],
        float("nan"),
        float("inf"),
        1e10,
        "9" * 400 + "s",
    ],
)
def test_what_is_no_duration_is_refused(written) -> None:
    with pytest.raises(ValidationError):
        DURATION.validate_python(written)


@pytest.mark.parametrize(
    "written", [0, -1, "64KB", "64kib", "KiB", "", "1e3", True, None, [], 1.5, "9" * 400 + "GiB", 1 << 63, "9" * 5000]
)
def test_what_is_no_size_is_refused(written) -> None:
    with pytest.raises(ValidationError):
        SIZE.validate_python(written)


def test_some_durations_must_be_above_zero() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(PositiveDuration).validate_python("0s")
