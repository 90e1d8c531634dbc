"""AsyncAPI documents: against the JSON Schema of AsyncAPI itself, with every reference leading somewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import jsonschema_rs
import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from hypothesis import given, settings

from support.node_packages import require_node_packages
from support.systems import TEXTS, actor, event, systems, warehouse
from walnatsd.describe.asyncapi import asyncapi
from walnatsd.describe.system import Service, System
from walnatsd.payload.protobuf_text import proto_text
from walnatsd.payload.schema_files import open_message
from walnatsd.v1 import events_pb2

npm = pytest.mark.needs_program("npm")
DRAFT_07 = {"$schema": "http://json-schema.org/draft-07/schema#"}


@pytest.fixture(scope="module")
def specification() -> Any:
    """The JSON Schema of AsyncAPI 3.0."""
    path = require_node_packages() / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    return jsonschema_rs.validator_for(json.loads(path.read_text()))


def written(system: System) -> dict[str, Any]:
    """The document, as a reader of the file gets it."""
    document: dict[str, Any] = json.loads(json.dumps(asyncapi(system, title="Parcels", version="1.2.3")))
    return document


def check(document: dict[str, Any], specification: Any) -> None:
    problems = [f"{list(error.instance_path)}: {error.message[:300]}" for error in specification.iter_errors(document)]
    assert not problems
    for ref in references(document):
        assert ref.startswith("#/"), ref
        here: Any = document
        for part in ref.removeprefix("#/").split("/"):
            here = here[part]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, below in value.items():
            if key == "$ref" and isinstance(below, str):
                yield below
            else:
                yield from references(below)
    elif isinstance(value, list):
        for below in value:
            yield from references(below)


@npm
def test_a_system_is_described_by_its_channels_and_operations(specification) -> None:
    document = written(warehouse())
    check(document, specification)
    assert document["info"] == {"title": "Parcels", "version": "1.2.3"}
    assert document["servers"] == {"nats": {"host": "n1:4222", "protocol": "nats"}}
    assert {key: channel["address"] for key, channel in document["channels"].items()} == {
        name: name for name in ("order-placed", "parcel.sent", "minute-passed")
    }
    assert {key: (each["action"], each.get("description")) for key, each in document["operations"].items()} == {
        "emit.shop.order-placed": ("send", None),
        "emit.warehouse.parcel.sent": ("send", None),
        "emit.warehouse.minute-passed": ("send", "By the clock: every 60 s."),
        "act.warehouse.order-placed.pack": ("receive", "Packs it."),
        "act.warehouse.minute-passed.look": ("receive", None),
        "act.mail.order-placed.tell": ("receive", None),
        "act.mail.parcel.sent.tell": ("receive", None),
    }
    assert [key for key, each in document["operations"].items() if "reply" in each] == ["act.mail.parcel.sent.tell"]


@npm
@settings(max_examples=60, derandomize=True)
@given(systems(), TEXTS, TEXTS)
def test_whatever_can_be_declared_gives_a_valid_document(specification, system, title, version) -> None:
    document = json.loads(json.dumps(asyncapi(system, title=title, version=version)))
    check(document, specification)
    operations = [each for name in system.events for each in system.emitters(name)] + system.actors()
    assert len(document.get("operations", {})) == len(operations)


def described(tmp_path: Path, files: dict[str, Any], **options: Any) -> tuple[System, dict[str, Any]]:
    """A system of one event with a JSON Schema of several files, and what the document has for it."""
    for name, schema in files.items():
        (tmp_path / name).write_text(json.dumps(schema))
    system = System(
        [Service("s", [event("e", schema={"json_schema": str(tmp_path / next(iter(files)))}, **options)], [])]
    )
    return system, written(system)["components"]["schemas"]["e"]["schema"]


@npm
def test_a_schema_stands_in_the_document_with_all_that_it_refers_to(tmp_path, specification) -> None:
    system, schema = described(
        tmp_path,
        {
            "node.json": {
                "$id": (tmp_path / "node.json").as_uri(),
                "type": "object",
                "properties": {
                    "next": {"$ref": "#"},
                    "item": {"$ref": "item.json"},
                    "size": {"$ref": "#/$defs/size"},
                    "$ref": {"const": {"$ref": 1}},
                },
                "$defs": {"size": {"type": "integer"}, "unused": False},
            },
            "item.json": {"properties": {"parts": {"items": {"$ref": "#"}}, "size": {"$ref": "node.json#/$defs/size"}}},
        },
        example={"item": {"parts": [{}]}},
    )
    check(written(system), specification)
    here = "#/components/schemas/e/schema"
    assert schema == {
        "type": "object",
        "properties": {
            "next": {"$ref": here},
            "item": {"$ref": f"{here}/definitions/item"},
            "size": {"$ref": f"{here}/definitions/size"},
            "$ref": {"const": {"$ref": 1}},
        },
        "definitions": {
            "item": {
                "properties": {
                    "parts": {"items": {"$ref": f"{here}/definitions/item"}},
                    "size": {"$ref": f"{here}/definitions/size"},
                }
            },
            "size": {"type": "integer"},
        },
    }
    message = written(system)["components"]["messages"]["e"]
    assert message["payload"] == {"$ref": "#/components/schemas/e"}
    assert message["examples"] == [{"payload": {"item": {"parts": [{}]}}}]


@npm
@pytest.mark.parametrize(
    ("schema", "translated"),
    [
        (
            {"prefixItems": [{"exclusiveMinimum": 0}], "items": False},
            {"items": [{"exclusiveMinimum": 0}], "additionalItems": False},
        ),
        ({"dependentRequired": {"a": ["b"]}}, {"dependencies": {"a": ["b"]}}),
        (
            {"$defs": {"d": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d", "maxLength": 1}}},
            {
                "properties": {
                    "a": {"maxLength": 1, "allOf": [{"$ref": "#/components/schemas/e/schema/definitions/d"}]},
                },
                "definitions": {"d": {"type": "string"}},
            },
        ),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
            {"exclusiveMinimum": 1},
        ),
        (
            {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 1, "exclusiveMaximum": False},
            {"maximum": 1},
        ),
        (True, True),
    ],
)
def test_schemas_of_other_drafts_are_told_in_draft_07(tmp_path, specification, schema, translated) -> None:
    system, found = described(tmp_path, {"schema.json": schema})
    check(written(system), specification)
    assert found == translated
    jsonschema_rs.meta.validate(DRAFT_07 | found if isinstance(found, dict) else found)


@npm
def test_two_definitions_of_one_name_stay_apart(tmp_path, specification) -> None:
    first, second = {"$defs": {"x": {"type": "string"}}}, {"$defs": {"x": {"type": "integer"}}}
    start = {"properties": {"a": {"$ref": "first.json#/$defs/x"}, "b": {"$ref": "second.json#/$defs/x"}}}
    system, found = described(tmp_path, {"start.json": start, "first.json": first, "second.json": second})
    check(written(system), specification)
    assert found["definitions"] == {"x": {"type": "string"}, "x-2": {"type": "integer"}}


@npm
def test_a_protobuf_schema_is_told_as_its_source(tmp_path, specification) -> None:
    path = descriptors(events_pb2.DESCRIPTOR, tmp_path)
    declared = event("e", schema={"protobuf": str(path), "message": "walnatsd.v1.EmitResponse"})
    document = written(System([Service("s", [declared], [actor("a", "e")])]))
    check(document, specification)
    schema = document["components"]["schemas"]["e"]["schema"]
    assert "The message is walnatsd.v1.EmitResponse" in schema
    assert "  uint64 sequence = 3;\n" in schema
    assert document["components"]["messages"]["e"]["contentType"] == "application/x-protobuf"


def descriptors(file: Any, folder: Path) -> Path:
    """A descriptor set of a file and all that it imports."""
    found: dict[str, Any] = {}

    def add(each: Any) -> None:
        for dependency in each.dependencies:
            add(dependency)
        found[each.name] = each

    add(file)
    files = descriptor_pb2.FileDescriptorSet()
    for each in found.values():
        each.CopyToProto(files.file.add())
    path = folder / "set.binpb"
    path.write_bytes(files.SerializeToString())
    return path


OLD_STYLE = """
syntax = "proto2";
package old;
message Outer {
  reserved 9, 20 to max;
  reserved "gone";
  enum Kind { option allow_alias = true; reserved -3 to -1, 7; NONE = 0; ZERO = 0; ONE = 1; }
  message Inner { required string name = 1; }
  required Kind kind = 1;
  optional Inner inner = 2;
  repeated int32 numbers = 3;
  map<string, Inner> inners = 4;
  oneof choice { bytes data = 5; string text = 6; }
  repeated group Part = 7 { optional sfixed32 size = 1; }
  optional string renamed = 8 [json_name = "called"];
}
"""
EDITION = """
edition = "2023";
package new;
message Parcel { int32 id = 1; repeated string tags = 2; Parcel inside = 3; }
"""


@pytest.mark.parametrize(
    "source", [OLD_STYLE, EDITION, proto_text(events_pb2.DESCRIPTOR)], ids=["old", "edition", "own"]
)
def test_a_protobuf_source_that_was_written_compiles_to_what_it_was_written_from(tmp_path, source: str) -> None:
    known = Path(grpc_tools.__file__).parent / "_proto"
    others = Path(descriptor_pb2.__file__).parents[2]  # google/rpc lies beside google/protobuf
    own = Path(__file__).parents[2] / "proto"

    def compiled(text: str) -> bytes:
        (tmp_path / "file.proto").write_text(text)
        flags = [f"-I{tmp_path}", f"-I{own}", f"-I{known}", f"-I{others}", "--include_imports"]
        assert protoc.main(["protoc", *flags, f"-o{tmp_path}/file.binpb", "file.proto"]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "file.binpb").read_bytes())
        return next(file for file in files.file if file.name == "file.proto").SerializeToString(deterministic=True)

    before = compiled(source)
    message = descriptor_pb2.FileDescriptorProto.FromString(before)
    name = f"{message.package}.{message.message_type[0].name}"
    assert compiled(proto_text(open_message(tmp_path / "file.binpb", name).file)) == before
