"""Two versions of a JSON Schema: does what fitted the old one still fit the new one, and if not, where?

Each keyword is compared by itself, so that a difference has a place and words. What breaks by that count is then put
before a solver (jsonschema-rs' canonical schemas), which knows that `const: 1` and `enum: [1]` are the same, and judges
keywords that can't be compared by themselves. Only its yes counts; without it a difference stays a break.

One thing is not taken to the letter: a property that was not declared is new, although an open schema would have let
anybody send it with another type.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from walnatsd.payload.schema_change import SchemaChange, breaking, compatible
from walnatsd.payload.schema_files import Subschema, bundled, first_line, inlined

_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_LOWEST = ("minLength", "minItems", "minProperties")
_HIGHEST = ("maxLength", "maxItems", "maxProperties")
_JUDGED = (
    ("multipleOf",), ("pattern",), ("format",), ("uniqueItems",), ("contains", "minContains", "maxContains"),
    ("propertyNames",), ("dependentRequired",), ("dependentSchemas",), ("dependencies",), ("not",), ("$dynamicRef",),
    ("$recursiveRef",),
)  # fmt: skip
"""Keywords, together where one means nothing without the other, that are left to the solver."""
_SAYS_NOTHING = frozenset(
    {
        "$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$defs", "definitions", "$comment", "title",
        "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
    }
)  # fmt: skip
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
_SHOWN_VALUES = 5
_SHOWN_LENGTH = 60
_ABSENT = object()


def json_schema_changes(old: Subschema, new: Subschema) -> list[SchemaChange]:
    """Compare two versions of a schema.

    Raises:
        ValueError: A reference leads nowhere; in words.
    """
    import jsonschema_rs  # noqa: PLC0415 - optional

    try:
        return _Comparison().compare(old, new, "")
    except jsonschema_rs.ReferencingError as error:
        raise ValueError(first_line(error)) from None


class _Comparison:
    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, str], list[SchemaChange]] = {}

    def compare(self, old: Subschema, new: Subschema, place: str) -> list[SchemaChange]:
        """Name the differences below a place."""
        old, new = _without_ref(old), _without_ref(new)
        key = (*_key(old), *_key(new))
        if key not in self._known:
            self._known[key] = []  # for a schema that refers to itself
            self._known[key] = self._compare(old, new)
        return [replace(change, place=place + change.place) for change in self._known[key]]

    def _compare(self, old: Subschema, new: Subschema) -> list[SchemaChange]:
        if _same(old, new):
            return []
        changes = list(self._differences(old, new, ""))
        harmless = [change for change in changes if not change.breaks]
        if len(harmless) < len(changes) and _covers(new, old):
            return harmless or [compatible("", "is written in another way, and lets pass what it let pass")]
        return changes

    def _differences(self, old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
        if old.value is False:
            yield compatible(place, "is allowed now")
            return
        if new.value is False:
            yield breaking(place, "is not allowed any more")
            return
        was, now = _types(old), _types(new)
        if was != now:
            gone = was - now - ({"integer"} if "number" in now else set())
            message = f"the type was {_types_in_words(was)}, is {_types_in_words(now)}"
            yield breaking(place, message) if gone else compatible(place, message)
            if gone == was:
                return  # everything else follows from it
        yield from _values(old, new, place)
        yield from _bounds(old, new, place)
        yield from self._properties(old, new, place)
        yield from self._items(old, new, place)
        yield from self._branches(old, new, place)
        for keywords in _JUDGED:
            yield from _judged(old, new, keywords, place)
        found = [
            name
            for name in _UNEVALUATED
            if _get(old, name, _ABSENT) is not _ABSENT or _get(new, name, _ABSENT) is not _ABSENT
        ]
        if found:  # what it says depends on all the rest, so the whole is put before the solver
            yield breaking(place, f"nobody can tell whether all that fitted still fits ({', '.join(found)})")

    # ---- objects

    def _properties(self, old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
        was, now = _get(old, "properties", {}), _get(new, "properties", {})
        had_to, has_to = set(_get(old, "required", [])), set(_get(new, "required", []))
        for name in [*was, *(name for name in now if name not in was)]:
            below = f"{place}/{_escaped(name)}"
            if name not in now:
                yield from self._gone(old.part(was[name]), _besides(new, name), below)
            elif name in was:
                yield from self.compare(old.part(was[name]), new.part(now[name]), below)
            elif name not in has_to or name in had_to:
                yield from self._property_new(old, new, name, below)
        for name in sorted(has_to - had_to):
            known = "is required now" if name in was else "is new and required"
            yield breaking(f"{place}/{_escaped(name)}", known)
        for name in sorted(had_to - has_to):
            yield compatible(f"{place}/{_escaped(name)}", "is not required any more")
        yield from self._patterns(old, new, place)
        yield from self._other_properties(old, new, place)

    def _property_new(self, old: Subschema, new: Subschema, name: str, place: str) -> Iterator[SchemaChange]:
        was = _besides(old, name)
        changes: list[SchemaChange] = []
        if isinstance(was.value, dict) and was.value:
            changes = self.compare(was, new.part(new.value["properties"][name]), place)
        broken = [change for change in changes if change.breaks]
        yield from broken or [compatible(place, "is new")]

    def _gone(self, was: Subschema, now: Subschema, place: str) -> Iterator[SchemaChange]:
        """Compare what was said of a property with what is said of it now that it is not named any more."""
        if _says_all(now):
            yield compatible(place, "is not described any more")
        elif now.value is False and was.value is not False:
            yield breaking(place, "is not there any more, and other properties are not allowed")
        else:
            yield from self.compare(was, now, place)

    def _patterns(self, old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
        was, now = _get(old, "patternProperties", {}), _get(new, "patternProperties", {})
        if was.keys() == now.keys():
            for pattern in was:
                below = f"{place}/{_escaped(pattern)}"
                yield from self.compare(old.part(was[pattern]), new.part(now[pattern]), below)
        else:  # a name can match several patterns, so only the solver knows
            yield breaking(place, "other patterns of names have schemas now (patternProperties)")

    def _other_properties(self, old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
        was, now = (each.part(_get(each, "additionalProperties", True)) for each in (old, new))
        if now.value is False and was.value is not False:
            yield breaking(place, "other properties are not allowed any more")
        elif was.value is False and now.value is not False:
            yield compatible(place, "other properties are allowed now")
        else:
            yield from self.compare(was, now, f"{place}/*")

    # ---- arrays

    def _items(self, old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
        was, other_was = _positions(old)
        now, other_now = _positions(new)
        for index in range(max(len(was), len(now))):
            one = was[index] if index < len(was) else other_was
            other = now[index] if index < len(now) else other_now
            yield from self.compare(old.part(one), new.part(other), f"{place}/{index}")
        yield from self.compare(old.part(other_was), new.part(other_now), f"{place}/*")

    # ---- schemas of schemas

    def _branches(self, old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
        for keyword in ("allOf", "anyOf", "oneOf"):
            was, now = ([each.part(one) for one in _get(each, keyword, [])] for each in (old, new))
            if len(was) != len(now):
                yield from _judged(old, new, (keyword,), place)
                continue
            for one, other in zip(was, now, strict=True):
                changes = self.compare(one, other, place)
                yield from changes
                if keyword == "oneOf" and changes and not _covers(one, other):
                    yield from _judged(old, new, (keyword,), place)  # a payload might fit two branches now
        if _same(*(each.part(_get(each, "if", True)) for each in (old, new))):
            for keyword in ("then", "else"):
                one, other = (each.part(_get(each, keyword, True)) for each in (old, new))
                yield from self.compare(one, other, place)
        else:
            yield from _judged(old, new, ("if", "then", "else"), place)


def _values(old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
    was, now = _allowed(old), _allowed(new)
    if was is None and now is not None:
        yield breaking(
            place, f"only {_shown(now)} is allowed now" if len(now) == 1 else f"only {_shown(now)} are allowed now"
        )
    elif was is not None and now is None:
        yield compatible(place, f"is not limited to {_shown(was)} any more")
    elif was is not None and now is not None:
        gone = [value for value in was if not _holds(now, value)]
        added = [value for value in now if not _holds(was, value)]
        if gone:
            yield breaking(place, f"{_shown(gone)} {'is' if len(gone) == 1 else 'are'} not allowed any more")
        if added:
            yield compatible(place, f"{_shown(added)} {'is' if len(added) == 1 else 'are'} allowed too")


def _bounds(old: Subschema, new: Subschema, place: str) -> Iterator[SchemaChange]:
    for keyword in (*_LOWEST, *_HIGHEST):
        was, now = _get(old, keyword, None), _get(new, keyword, None)
        if was == now:
            continue
        sign = 1 if keyword in _LOWEST else -1
        narrower = now is not None and (was is None or now * sign > was * sign)
        message = _was_is(keyword, was, now)
        yield breaking(place, message) if narrower else compatible(place, message)
    for keyword, sign in (("minimum", 1), ("maximum", -1)):
        one, other = _bound(old, keyword, sign), _bound(new, keyword, sign)
        if one != other:
            narrower = other is not None and (one is None or other > one)
            message = _was_is(keyword, _bound_in_words(one, sign), _bound_in_words(other, sign))
            yield breaking(place, message) if narrower else compatible(place, message)


def _bound(schema: Subschema, keyword: str, sign: int) -> tuple[float, bool] | None:
    """Give the bound of a number so that the greater one lets less pass, and whether the number itself is out."""
    plain, exclusive = _get(schema, keyword, None), _get(schema, f"exclusive{keyword.capitalize()}", None)
    bounds = []
    if plain is not None:
        bounds.append((plain * sign, exclusive is True))  # true: in draft 4
    if exclusive is not None and not isinstance(exclusive, bool):
        bounds.append((exclusive * sign, True))
    return max(bounds, default=None)


def _bound_in_words(bound: tuple[float, bool] | None, sign: int) -> str | None:
    if bound is None:
        return None
    return f"{json.dumps(bound[0] * sign)}{' (exclusive)' if bound[1] else ''}"


def _judged(old: Subschema, new: Subschema, keywords: tuple[str, ...], place: str) -> Iterator[SchemaChange]:
    """Leave a few keywords to the solver."""
    one, other = (
        {key: value for key in keywords if (value := _get(each, key, _ABSENT)) is not _ABSENT} for each in (old, new)
    )
    was, now = old.part(one), new.part(other)
    if _same(was, now):
        return
    message = f"{', '.join(one | other)} {'has' if len(one | other) == 1 else 'have'} changed"
    if len(one | other) == 1:
        [keyword] = one | other
        if not any(isinstance(each.get(keyword), (dict, list)) for each in (one, other)):
            message = _was_is(keyword, *(json.dumps(each[keyword]) if each else None for each in (one, other)))
    yield compatible(place, message) if _covers(now, was) else breaking(place, message)


# ---- reading schemas


def _without_ref(schema: Subschema) -> Subschema:
    """Follow references; what stands beside one becomes a schema of its own."""
    met: set[str] = set()
    while (ref := schema.ref) is not None:
        uri = schema.uri(ref)
        if uri in met:
            return schema.part({})  # a reference to itself says nothing
        met.add(uri)
        rest = {key: part for key, part in schema.value.items() if key != "$ref" and key not in _SAYS_NOTHING}
        if rest and schema.siblings_count:
            return schema.part({"allOf": [rest, {"$ref": uri}]})
        schema = schema.target(ref)
    return schema


def _get(schema: Subschema, keyword: str, default: Any) -> Any:
    return schema.value.get(keyword, default) if isinstance(schema.value, dict) else default


def _types(schema: Subschema) -> set[str]:
    """Give the types that are allowed; whole numbers are numbers."""
    given = _get(schema, "type", _TYPES)
    types = {given} if isinstance(given, str) else set(given)
    return types - ({"integer"} if "number" in types else set())


def _allowed(schema: Subschema) -> list[Any] | None:
    """Give the values that are listed as allowed, None where there is no list."""
    const = _get(schema, "const", _ABSENT)
    values: list[Any] | None = _get(schema, "enum", None)
    return values if const is _ABSENT else [const]


def _besides(schema: Subschema, name: str) -> Subschema:
    """Give what is said about a property that has no schema of its own."""
    for pattern, below in _get(schema, "patternProperties", {}).items():
        if _matches(pattern, name):
            return schema.part(below)
    return schema.part(_get(schema, "additionalProperties", True))


def _positions(schema: Subschema) -> tuple[list[Any], Any]:
    """Give the schemas of the first items, and that of all others."""
    items = _get(schema, "items", True)
    if isinstance(items, list):
        return items, _get(schema, "additionalItems", True)
    return _get(schema, "prefixItems", []), items


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:  # ECMA 262 knows more than Python
        return False


def _says_all(schema: Subschema) -> bool:
    return schema.value is True or schema.value == {}


# ---- telling the same from the different


def _key(schema: Subschema) -> tuple[str, str]:
    return schema.resolver.base_uri, json.dumps(schema.value, sort_keys=True)


def _same(old: Subschema, new: Subschema) -> bool:
    """Whether two schemas are written alike, with all that they refer to."""
    one, other = (json.dumps(bundled(each, "#", whole=False), sort_keys=True) for each in (old, new))
    return one == other


def _covers(new: Subschema, old: Subschema) -> bool:
    """Whether it is certain that whatever fits the old schema fits the new one."""
    import jsonschema_rs  # noqa: PLC0415 - optional

    if old.draft != new.draft:
        return False
    try:
        was, now = (jsonschema_rs.canonicalize(inlined(each), draft=each.draft) for each in (old, new))
        return bool(now.covers(was) == jsonschema_rs.canonical.Containment.YES)
    except (ValueError, RecursionError, jsonschema_rs.canonical.CanonicalizationError):
        return False


def _holds(values: list[Any], value: Any) -> bool:
    return any(each == value and isinstance(each, bool) == isinstance(value, bool) for each in values)


# ---- words


def _was_is(keyword: str, was: object, now: object) -> str:
    return f"{keyword} was {'not set' if was is None else was}, is {'not set any more' if now is None else now}"


def _shown(values: list[Any]) -> str:
    texts = [json.dumps(value, ensure_ascii=False) for value in values[:_SHOWN_VALUES]]
    texts = [text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…" for text in texts]
    return ", ".join(texts) + (f" and {len(values) - _SHOWN_VALUES} more" if len(values) > _SHOWN_VALUES else "")


def _types_in_words(types: set[str]) -> str:
    return "not set" if types == _TYPES - {"integer"} else " or ".join(sorted(types))


def _escaped(name: str) -> str:
    """Write a name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
