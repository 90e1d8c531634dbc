"""Filters: CEL expressions over a message (https://github.com/google/cel-spec)."""

from collections.abc import Mapping
from functools import cache
from typing import Any

_ERROR = "ERROR"
INSTALL = "needs the extra cel; install it with: pip install 'walnatsd[cel]'"


class FilterError(Exception):
    """A filter could not say yes or no to a message; in words."""


class Filter:
    """A compiled expression over `data`, `ce` and `headers`.

    Raises:
        ValueError: It does not compile, names something else, or can't give a boolean; in words.
    """

    def __init__(self, expression: str) -> None:
        environment, boolean, dynamic = _environment()
        try:
            self._expression = environment.compile(expression)
        except RuntimeError as error:
            raise ValueError(f"not a CEL expression over data, ce and headers: {_words(error)}") from None
        if self._expression.return_type() not in (boolean, dynamic):
            raise ValueError(f"gives {self._expression.return_type().name().lower()} and never true or false")

    def matches(self, data: object, ce: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        """Say whether a message matches.

        Args:
            data: The decoded payload; None where it is not JSON.
            ce: The CloudEvents attributes without their prefix, decoded.
            headers: The message's other headers, with lower-case names.

        Raises:
            FilterError: It fails on this message, or gives something else than a boolean.
        """
        try:
            result = self._expression.eval(data={"data": data, "ce": dict(ce), "headers": dict(headers)})
            value = result.value()
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise FilterError(f"the filter fails: {_words(error)}{_hint(data)}") from None
        if isinstance(value, bool):
            return value
        what = "fails" if result.type().name() == _ERROR else "gives no boolean"
        raise FilterError(f"the filter {what}: {_words(value)}{_hint(data)}")


@cache
def _environment() -> Any:
    """Give the environment, and the types that an expression may have. The library is loaded on first use."""
    try:
        from cel_expr_python import cel  # noqa: PLC0415 - optional, and 6 MB of memory
    except ImportError:
        raise ValueError(INSTALL) from None
    text = cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
    variables = {"data": cel.Type.DYN, "ce": text, "headers": text}
    return cel.NewEnv(variables=variables), cel.Type.BOOL, cel.Type.DYN


def _hint(data: object) -> str:
    return " (data is null, because the payload is null or no JSON)" if data is None else ""


def _words(error: object) -> str:
    return str(error).partition("\n")[0].removesuffix(" [INVALID_ARGUMENT]").removeprefix("INVALID_ARGUMENT: ")[:300]
