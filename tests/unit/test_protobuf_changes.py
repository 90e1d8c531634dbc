"""Two versions of a Protobuf message: what breaks payloads, in binary or in JSON, what does not, and where."""

from pathlib import Path

import grpc_tools
import pytest
from grpc_tools import protoc

from walnatsd.model.event import Schema
from walnatsd.payload.schema_evolution import schema_changes

INCLUDED = Path(grpc_tools.__file__).parent / "_proto"


def compiled(source: str, folder: Path, name: str) -> Schema:
    """The message M of a source."""
    (folder / f"{name}.proto").write_text(source)
    flags = [f"-I{folder}", f"-I{INCLUDED}", "--include_imports", f"-o{folder}/{name}.binpb"]
    assert protoc.main(["protoc", *flags, f"{name}.proto"]) == 0
    return Schema(protobuf=str(folder / f"{name}.binpb"), message="p.M")


def changes(old: str, new: str, folder: Path, *, syntax: str = "proto3") -> list[str]:
    """What differs between two versions of the message M, each with a sign in front: ! breaks, + does not."""
    head = f'syntax = "{syntax}"; package p; import "google/protobuf/timestamp.proto";'
    one, other = (
        compiled(source if "message M" in source else f"{head} message M {{ {source} }}", folder, name)
        for source, name in ((old, "old"), (new, "new"))
    )
    return [f"{'!' if change.breaks else '+'} {change}" for change in schema_changes(one, other)]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("int32 id = 1;", "int32 id = 1;", []),
        ("int32 id = 1;", "int32 id = 1; string status = 2;", ["+ /status: is new"]),
        ("int32 id = 1;", "int32 id = 2;", ["! /id: the number was 1, is 2"]),
        ("int32 id = 1;", "string id = 1;", ["! /id: the type was int32, is string"]),
        ("int32 id = 1;", "int64 id = 1;", ["+ /id: the type was int32, is int64"]),
        ("int64 id = 1;", "int32 id = 1;", ["! /id: the type was int64, is int32"]),
        ("repeated int32 id = 1;", "repeated int64 id = 1;", ["+ /id: the type was repeated int32, is repeated int64"]),
        ("int32 id = 1;", "sint32 id = 1;", ["! /id: the type was int32, is sint32"]),
        ("int32 id = 1;", "repeated int32 id = 1;", ["! /id: the type was int32, is repeated int32"]),
        ("int32 id = 1;", "optional int32 id = 1;", []),
        ("int32 id = 1;", "", ["! /id: is gone, and its number is free for another; write: reserved 1;"]),
        (
            "int32 id = 1;",
            "reserved 1;",
            ["+ /id: is gone, its number 1 is reserved; JSON that has it is turned away"],
        ),
        (
            "int32 id = 3;",
            "reserved 2 to max;",
            ["+ /id: is gone, its number 3 is reserved; JSON that has it is turned away"],
        ),
        (
            "reserved 1;",
            "int32 id = 1;",
            ["! /id: is new under the number 1, which was reserved: another field had it"],
        ),
        ("int32 id = 1;", "int32 key = 1;", ["! /id: is called key now; JSON has it under its old name"]),
        ("int32 id = 1;", 'int32 key = 1 [json_name = "id"];', []),
        (
            "int32 id = 1; string key = 2;",
            "string key = 1; int32 id = 2;",
            ["! /id: the number was 1, is 2", "! /key: the number was 2, is 1"],
        ),
        (
            "oneof which { int32 id = 1; string key = 2; }",
            "int32 id = 1; string key = 2;",
            ["! /id: was in which, is in no oneof", "! /key: was in which, is in no oneof"],
        ),
        ("map<string, int32> sizes = 1;", "map<string, int32> sizes = 1;", []),
        (
            "map<string, int32> sizes = 1;",
            "map<string, string> sizes = 1;",
            ["! /sizes: the type was map<string, int32>, is map<string, string>"],
        ),
        (
            "message I { int32 id = 1; } I inner = 1; repeated I others = 2;",
            "message I { string id = 1; } I inner = 1; repeated I others = 2;",
            ["! /inner/id: the type was int32, is string"],
        ),
        (
            "message I { int32 id = 1; } map<string, I> inner = 1;",
            "message I { string id = 1; } map<string, I> inner = 1;",
            ["! /inner/value/id: the type was int32, is string"],
        ),
        ("M inside = 1; int32 id = 2;", "M inside = 1; int32 id = 2; int32 size = 3;", ["+ /size: is new"]),
        ("message I { int32 id = 1; } I inner = 1;", "message J { int32 id = 1; } J inner = 1;", []),
        (
            "google.protobuf.Timestamp at = 1;",
            "message T { int64 seconds = 1; int32 nanos = 2; } T at = 1;",
            ["! /at: the type was google.protobuf.Timestamp, is message"],
        ),
        ("enum E { A = 0; B = 1; } E e = 1;", "enum E { A = 0; B = 1; C = 2; } E e = 1;", ["+ /e: C is new"]),
        (
            "enum E { A = 0; B = 1; } E e = 1;",
            "enum E { A = 0; } E e = 1;",
            ["! /e: B is gone, and its number is free for another; write: reserved 1;"],
        ),
        (
            "enum E { A = 0; B = 1; } E e = 1;",
            "enum E { reserved 1; A = 0; } E e = 1;",
            ["+ /e: B is gone, its number 1 is reserved; JSON that has it is turned away"],
        ),
        (
            "enum E { A = 0; B = 1; } E e = 1;",
            "enum E { A = 0; B = 2; } E e = 1;",
            ["! /e: the number of B was 1, is 2"],
        ),
        (
            "enum E { A = 0; B = 1; } E e = 1;",
            "enum E { A = 0; C = 1; } E e = 1;",
            ["! /e: B is called C now; JSON has the old name"],
        ),
    ],
)
def test_a_change_has_a_place_and_words(tmp_path, old, new, told) -> None:
    assert changes(old, new, tmp_path) == told


def test_fields_that_are_required_are_a_matter_of_the_old_syntax(tmp_path) -> None:
    was, now = "optional int32 id = 1;", "required int32 id = 1; required int32 size = 2;"
    assert changes(was, now, tmp_path, syntax="proto2") == ["! /id: is required now", "! /size: is new and required"]
    assert changes("required int32 id = 1;", was, tmp_path, syntax="proto2") == ["+ /id: is not required any more"]
