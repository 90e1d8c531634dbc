"""CEL filters over data, ce and headers."""

import pytest

from walnatsd.payload.filter import Filter, FilterError

CE = {"source": "/warehouse", "type": "parcel-sent"}


@pytest.mark.parametrize(
    ("expression", "data", "expected"),
    [
        ('data.status == "sent" && ce.source == "/warehouse"', {"status": "sent"}, True),
        ('data.status == "sent" && ce.source == "/warehouse"', {"status": "lost"}, False),
        ('headers["x-team"] == "logistics"', None, True),
        ('"x-none" in headers', None, False),
        ("data == null", None, True),
        ("data == null", 0, False),
        ("has(data.a) && data.a > 1.5", {"a": 2}, True),
        ("has(data.a) && data.a > 1.5", {}, False),
        ("data.items.exists(item, item.weight > 10)", {"items": [{"weight": 1}, {"weight": 11}]}, True),
        ("size(data) == 3", "abc", True),
        ("true", None, True),
    ],
)
def test_a_filter_says_yes_or_no(expression: str, data: object, expected: bool) -> None:
    assert Filter(expression).matches(data, CE, {"x-team": "logistics"}) is expected


@pytest.mark.parametrize(
    ("expression", "data", "words"),
    [
        ('data.status == "sent"', {}, "Key not found in map"),
        ('data.status == "sent"', None, "fails"),
        ("data.status", {"status": "sent"}, "gives no boolean: sent"),
        ("data.n / data.z == 1", {"n": 1, "z": 0}, "fails"),
        ("ce.subject == 'x'", None, "Key not found"),
    ],
)
def test_a_filter_that_fails_or_gives_no_boolean_says_so(expression: str, data: object, words: str) -> None:
    with pytest.raises(FilterError, match=words):
        Filter(expression).matches(data, CE, {})


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("nope == 1", "undeclared reference to 'nope'"),
        ("data.status ==", "not a CEL expression"),
        ("1 + 1", "never true or false"),
        ('"text"', "never true or false"),
        ("ce.source", "never true or false"),
        ("", "not a CEL expression"),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_declared(expression: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Filter(expression)
