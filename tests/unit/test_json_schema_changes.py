"""Two versions of a JSON Schema: what breaks payloads that fitted, what does not, and where."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from walnatsd.model.event import Schema
from walnatsd.payload.json_schema_changes import json_schema_changes
from walnatsd.payload.schema_evolution import schema_changes
from walnatsd.payload.schema_files import open_json_schema

ITEM = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "status": {"enum": ["sent", "lost"]}},
    "required": ["id"],
}
CLOSED = ITEM | {"additionalProperties": False}


def changes(old: Any, new: Any, folder: Path) -> list[str]:
    """What differs, each with a sign in front: ! breaks, + does not."""
    found = []
    for name, schema in (("old", old), ("new", new)):
        (folder / f"{name}.json").write_text(json.dumps(schema))
    for change in json_schema_changes(open_json_schema(folder / "old.json"), open_json_schema(folder / "new.json")):
        found.append(f"{'!' if change.breaks else '+'} {change}")
    return found


def having(schema: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return schema | {"properties": schema["properties"] | properties}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (ITEM, ITEM, []),
        (ITEM, ITEM | {"title": "Item", "description": "of a parcel", "$comment": "so it is"}, []),
        (ITEM, ITEM | {"required": ["id", "status"]}, ["! /status: is required now"]),
        (ITEM, having(ITEM, size={}) | {"required": ["id", "size"]}, ["! /size: is new and required"]),
        (ITEM, ITEM | {"required": []}, ["+ /id: is not required any more"]),
        (ITEM, having(ITEM, size={"type": "number"}), ["+ /size: is new"]),
        (CLOSED, having(CLOSED, size={"type": "number"}), ["+ /size: is new"]),
        (
            ITEM | {"additionalProperties": {"type": "string"}},
            having(ITEM, size={"type": "number"}) | {"additionalProperties": {"type": "string"}},
            ["! /size: the type was string, is number"],
        ),
        (having(ITEM, size={"type": "number"}), ITEM, ["+ /size: is not described any more"]),
        (
            having(CLOSED, size={"type": "number"}),
            CLOSED,
            ["! /size: is not there any more, and other properties are not allowed"],
        ),
        (ITEM, CLOSED, ["! other properties are not allowed any more"]),
        (CLOSED, ITEM, ["+ other properties are allowed now"]),
        (ITEM, having(ITEM, id={"type": "string"}), ["! /id: the type was integer, is string"]),
        (ITEM, having(ITEM, id={"type": "number"}), ["+ /id: the type was integer, is number"]),
        (having(ITEM, id={"type": "number"}), ITEM, ["! /id: the type was number, is integer"]),
        (ITEM, having(ITEM, id={"type": ["integer", "null"]}), ["+ /id: the type was integer, is integer or null"]),
        (ITEM, having(ITEM, id={}), ["+ /id: the type was integer, is not set"]),
        (ITEM, having(ITEM, status={"enum": ["sent", "lost", "found"]}), ['+ /status: "found" is allowed too']),
        (
            ITEM,
            having(ITEM, status={"enum": ["sent", "found"]}),
            ['! /status: "lost" is not allowed any more', '+ /status: "found" is allowed too'],
        ),
        (ITEM, having(ITEM, status={}), ['+ /status: is not limited to "sent", "lost" any more']),
        ({}, {"enum": [1, 2]}, ["! only 1, 2 are allowed now"]),
        ({"enum": [1, True]}, {"enum": [1]}, ["! true is not allowed any more"]),
        ({"const": 1}, {"enum": [1, 2]}, ["+ 2 is allowed too"]),
        ({"maxLength": 5}, {"maxLength": 4}, ["! maxLength was 5, is 4"]),
        ({"maxLength": 5}, {"maxLength": 6}, ["+ maxLength was 5, is 6"]),
        ({}, {"minItems": 1}, ["! minItems was not set, is 1"]),
        ({"minItems": 1}, {}, ["+ minItems was 1, is not set any more"]),
        ({"minimum": 0}, {"minimum": 1}, ["! minimum was 0, is 1"]),
        ({"minimum": 0}, {"exclusiveMinimum": 0}, ["! minimum was 0, is 0 (exclusive)"]),
        ({"maximum": 9}, {"maximum": 10}, ["+ maximum was 9, is 10"]),
        ({"pattern": "^a"}, {"pattern": "^b"}, ['! pattern was "^a", is "^b"']),
        ({"multipleOf": 4}, {"multipleOf": 2}, ["+ multipleOf was 4, is 2"]),
        ({"multipleOf": 2}, {"multipleOf": 4}, ["! multipleOf was 2, is 4"]),
        ({"items": {"type": "string"}}, {"items": {"type": "integer"}}, ["! /*: the type was string, is integer"]),
        ({"prefixItems": [{}]}, {"prefixItems": [{"type": "null"}]}, ["! /0: the type was not set, is null"]),
        ({"items": False}, {"prefixItems": [{"type": "null"}], "items": False}, ["+ /0: is allowed now"]),
        ({"properties": {"a/b~c": {}}}, {"properties": {"a/b~c": False}}, ["! /a~1b~0c: is not allowed any more"]),
        (
            {"anyOf": [{"type": "string"}, ITEM]},
            {"anyOf": [{"type": "string"}, ITEM | {"required": []}]},
            ["+ /id: is not required any more"],
        ),
        ({"anyOf": [{"type": "string"}]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}, ["+ anyOf has changed"]),
        (
            {"oneOf": [{"type": "string"}, {"type": "null"}]},
            {"oneOf": [{"type": "string"}, {"type": "null"}, {"maxLength": 3}]},
            ["! oneOf has changed"],
        ),
        ({}, {"not": {"type": "string"}}, ["! not has changed"]),
        (
            {"if": {"required": ["a"]}, "then": {"required": ["b"]}},
            {"if": {"required": ["a"]}, "then": {"required": ["b", "c"]}},
            ["! /c: is new and required"],
        ),
        ({}, {"dependentRequired": {"a": ["b"]}}, ["! dependentRequired has changed"]),
        (
            {"patternProperties": {"^a": {"type": "string"}}},
            {"patternProperties": {"^a": {"type": "null"}}},
            ["! /^a: the type was string, is null"],
        ),
        ({}, {"patternProperties": {"^a": {}}}, ["+ is written in another way, and lets pass what it let pass"]),
        (
            {"patternProperties": {"^a": {}}},
            {"patternProperties": {"^b": {"type": "null"}}},
            ["! other patterns of names have schemas now (patternProperties)"],
        ),
        (
            ITEM | {"unevaluatedProperties": False},
            having(ITEM, size={}) | {"unevaluatedProperties": False},
            ["+ /size: is new"],
        ),
        (
            {"type": "integer", "exclusiveMinimum": 0},
            {"type": "integer", "minimum": 1},
            ["+ is written in another way, and lets pass what it let pass"],
        ),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"required": ["a", "b"]}, ["+ allOf has changed"]),
        (True, False, ["! is not allowed any more"]),
    ],
)
def test_a_change_has_a_place_and_words(tmp_path, old, new, told) -> None:
    assert changes(old, new, tmp_path) == told


def test_what_is_referred_to_is_compared_wherever_it_stands(tmp_path) -> None:
    for name, item in (("old", {"type": "integer"}), ("new", {"type": "string"})):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "item.json").write_text(json.dumps({"$defs": {"id": item}}))
        parcel = {"properties": {"id": {"$ref": "item.json#/$defs/id"}, "inside": {"$ref": "#"}}}
        (folder / "parcel.json").write_text(json.dumps(parcel))
    old, new = (Schema(json_schema=str(tmp_path / name / "parcel.json")) for name in ("old", "new"))
    assert [str(change) for change in schema_changes(old, new)] == ["/id: the type was integer, is string"]
    assert schema_changes(old, old) == []


def test_drafts_are_compared_by_what_they_mean(tmp_path) -> None:
    draft_4 = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 0, "exclusiveMinimum": True}
    assert changes(draft_4, {"exclusiveMinimum": 0}, tmp_path) == []
    assert changes(draft_4, {"exclusiveMinimum": 1}, tmp_path) == ["! minimum was 0 (exclusive), is 1 (exclusive)"]
    draft_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
    beside = {"definitions": {"s": {"type": "string"}}, "$ref": "#/definitions/s", "maxLength": 1}
    assert changes(draft_7 | beside, draft_7 | {"type": "string"}, tmp_path) == []  # what is beside a $ref says nothing


def test_a_schema_that_comes_or_goes_is_a_change(tmp_path) -> None:
    (tmp_path / "a.json").write_text("{}")
    schema = Schema(json_schema=str(tmp_path / "a.json"))
    other = Schema(protobuf=str(tmp_path / "a.binpb"), message="a")
    for old, new, breaks in ((None, schema, True), (schema, None, False), (schema, other, True)):
        [change] = schema_changes(old, new)
        assert change.breaks is breaks
    assert schema_changes(None, None) == []


def test_a_reference_that_leads_nowhere_is_told(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"$ref": "#/nowhere"}')
    with pytest.raises(ValueError, match="nowhere"):
        schema_changes(*[Schema(json_schema=str(tmp_path / "a.json"))] * 2)


# Any two schemas: where nothing is said to break, no payload tells otherwise. Objects are closed, or say what else may
# come, for a property that was not declared counts as new.

WORDS = st.sampled_from(["", "a", "ab", "b"])
NAMES = st.sampled_from(["a", "b", "x"])
NUMBERS = st.integers(-1, 3)
SCALARS = [None, True, False, -1, 0, 1, 2, 3, 0.5, 1.0, "", "a", "ab", "b"]
SMALL = [1, "a", None, "ab", {"a": 1}, [1]]
PAYLOADS = [
    *SCALARS, [], *([each] for each in SMALL), *([one, other] for one in SMALL for other in SMALL), [1, 2, "a"], {},
    *({name: each} for name in "abx" for each in SMALL), *({"a": one, "b": other} for one in SMALL for other in SMALL),
    {"a": 1, "b": "b", "x": None}, {"x": {"x": {"a": 1}}}, {"a": {"b": 2, "x": ""}},
]  # fmt: skip
VALUES = st.sampled_from(PAYLOADS)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])


def optional(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


def larger(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.fixed_dictionaries(
        {"additionalProperties": st.just(False) | below.filter(lambda schema: schema not in (True, {}))},
        optional={
            "properties": st.dictionaries(NAMES, below, max_size=2),
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b", "x$"]), below, max_size=1),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "maxProperties": NUMBERS.filter(lambda number: number >= 0),
            "propertyNames": below,
            "type": st.just("object"),
        },
    )
    arrays = optional(
        items=below, prefixItems=st.lists(below, min_size=1, max_size=2), contains=below, uniqueItems=st.booleans(),
        minItems=st.integers(0, 2), type=st.just("array"),
    )  # fmt: skip
    several = st.lists(below, min_size=1, max_size=2)
    mixed = optional(
        allOf=several, anyOf=several, oneOf=several, **{"not": below, "if": below, "then": below, "else": below}
    )
    return objects | arrays | mixed


SCHEMAS = st.recursive(
    st.booleans()
    | optional(type=TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True))
    | optional(minimum=NUMBERS, exclusiveMaximum=NUMBERS, multipleOf=st.sampled_from([1, 2, 0.5]))
    | optional(minLength=st.integers(0, 2), maxLength=st.integers(0, 2), pattern=st.sampled_from(["^a", "b$", "."]))
    | optional(enum=st.lists(VALUES, min_size=1, max_size=3), const=VALUES),
    larger,
    max_leaves=6,
)


@st.composite
def versions(draw: st.DrawFn) -> tuple[Any, Any]:
    """A schema and a version of it with a few places changed, or with all of it."""
    old = draw(SCHEMAS)

    def changed(schema: Any) -> Any:
        if draw(st.integers(0, 3)) == 0:
            return draw(SCHEMAS)
        if isinstance(schema, dict) and schema:
            key = draw(st.sampled_from(sorted(schema)))
            part = schema[key]
            if key in ("properties", "patternProperties"):
                return schema | {key: {name: changed(below) for name, below in part.items()}}
            if key in ("allOf", "anyOf", "oneOf", "prefixItems"):
                return schema | {key: [changed(below) for below in part]}
            if key in ("additionalProperties", "items", "contains", "propertyNames", "not", "if", "then", "else"):
                return schema | {key: changed(part)}
            if key != "additionalProperties":
                return {name: below for name, below in schema.items() if name != key}
        return schema

    return old, changed(old)


@settings(max_examples=150, derandomize=True)
@given(versions())
def test_where_nothing_breaks_no_payload_that_fitted_is_turned_away(tmp_path_factory, pair) -> None:
    old, new = pair
    found = changes(old, new, tmp_path_factory.getbasetemp())
    if any(change.startswith("!") for change in found):
        return
    was, now = jsonschema_rs.validator_for(old), jsonschema_rs.validator_for(new)
    for payload in PAYLOADS:
        assert now.is_valid(payload) or not was.is_valid(payload), (payload, found)
