"""Schemas of events: what fits, what does not and where, and schemas that can't be used."""

import json
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from walnatsd.model.event import Schema
from walnatsd.payload.schemas import PayloadSchema, SchemaError, open_schema

PARCEL = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"$ref": "item.json"}},
        "status": {"enum": ["sent", "lost"]},
    },
    "required": ["status"],
}
ITEM = {"type": "object", "properties": {"weight/kg": {"type": "number", "minimum": 0}}}


@pytest.fixture
def parcel(tmp_path: Path) -> PayloadSchema:
    folder = tmp_path / "sch emas"
    folder.mkdir()
    (folder / "parcel.json").write_text(json.dumps(PARCEL))
    (folder / "item.json").write_text(json.dumps(ITEM))
    return open_schema(Schema(json_schema=str(folder / "parcel.json")))


def test_a_payload_that_fits_is_fine(parcel) -> None:
    parcel.check(b'{"status": "sent", "items": [{"weight/kg": 1.5}]}', "application/json")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (
            b'{"status": "sent", "items": [{}, {"weight/kg": -1}]}',
            "/items/1/weight~1kg: -1 is less than the minimum of 0",
        ),
        (b"{}", '"status" is a required property'),
        (b"[]", 'is not of type "object"'),
        (b"", "the payload is not JSON"),
        (b"no json", "the payload is not JSON"),
        (b"\xff", "the payload is not JSON"),
        (b'{"status": "sent", "more": NaN}', "the payload is not JSON: NaN is no number of JSON"),
        (b'{"status": "sent", "more": -Infinity}', "the payload is not JSON: -Infinity is no number of JSON"),
        ('{"status": "sent"}'.encode("utf-16"), "the payload is not JSON"),
        (b"[" * 100_000, "the payload is not JSON"),
        (b'{"status": 1, "items": [1, 1, 1, 1, 1, 1, 1, 1]}', "; and more"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(parcel, payload: bytes, words: str) -> None:
    with pytest.raises(SchemaError) as caught:
        parcel.check(payload, "application/json")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type": "nope"}', "is no JSON Schema: /type: "),
        ("{", "is not JSON"),
        ('{"$ref": "http://127.0.0.1:1/schema.json"}', "schemas are read from files only"),
        ('{"$ref": "missing.json"}', "can't read"),
        ('{"pattern": "("}', "is no JSON Schema: /pattern"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(ValueError, match="schema") as caught:
        open_schema(Schema(json_schema=str(tmp_path / "schema.json")))
    assert words in str(caught.value)


@pytest.fixture
def descriptors(tmp_path: Path) -> Path:
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="pkg/parcel.proto", package="pkg", syntax="proto2")
    message = file.message_type.add(name="Parcel")
    message.field.add(name="id", number=1, type="TYPE_INT64", label="LABEL_REQUIRED")
    message.field.add(name="status", number=2, type="TYPE_STRING", label="LABEL_OPTIONAL")
    path = tmp_path / "parcel.binpb"
    path.write_bytes(files.SerializeToString())
    return path


def test_a_protobuf_message_is_checked_in_binary_and_in_json(descriptors: Path) -> None:
    schema = open_schema(Schema(protobuf=str(descriptors), message="pkg.Parcel"))
    schema.check(b"\x08\x07\x12\x04sent", "application/x-protobuf")
    schema.check(b'{"id": "7", "status": "sent"}', "application/json")
    for payload, content_type, words in (
        (b"\x12\x04sent", "application/x-protobuf", "id is missing"),
        (b"\x08", "application/x-protobuf", "is no pkg.Parcel"),
        (b"\xff\xff\xff", "application/x-protobuf", "is no pkg.Parcel"),
        (b'{"id": "x"}', "application/json", "is no pkg.Parcel"),
        (b'{"nope": 1}', "application/json", "nope"),
        (b"\xff", "application/json", "is no pkg.Parcel"),
    ):
        with pytest.raises(SchemaError, match=words):
            schema.check(payload, content_type)


def test_a_descriptor_set_that_cannot_be_used_is_refused_in_words(descriptors: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no message 'pkg.Nope'"):
        open_schema(Schema(protobuf=str(descriptors), message="pkg.Nope"))
    (tmp_path / "text").write_text("syntax = proto3")
    with pytest.raises(ValueError, match="is no descriptor set"):
        open_schema(Schema(protobuf=str(tmp_path / "text"), message="pkg.Parcel"))
    files = descriptor_pb2.FileDescriptorSet()
    files.file.add(name="a.proto", dependency=["google/protobuf/timestamp.proto"])
    (tmp_path / "incomplete").write_bytes(files.SerializeToString())
    with pytest.raises(ValueError, match=r"can't be used|lacks what it imports"):
        open_schema(Schema(protobuf=str(tmp_path / "incomplete"), message="a"))
