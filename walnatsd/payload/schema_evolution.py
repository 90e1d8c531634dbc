"""Two versions of what an event declares about its payloads."""

from pathlib import Path

from walnatsd.model.event import Schema
from walnatsd.payload.json_schema_changes import json_schema_changes
from walnatsd.payload.protobuf_changes import protobuf_changes
from walnatsd.payload.schema_change import SchemaChange, breaking, compatible
from walnatsd.payload.schema_files import open_json_schema, open_message


def schema_changes(old: Schema | None, new: Schema | None) -> list[SchemaChange]:
    """Name the differences, and whether a payload that fitted may not fit any more.

    Raises:
        ValueError: A file can't be used; in words.
    """
    if old is None or new is None:
        if old is not None:
            return [compatible("", "payloads are not checked any more")]
        return [breaking("", "payloads were not checked, and must fit a schema now")] if new is not None else []
    if old.json_schema is not None and new.json_schema is not None:
        return json_schema_changes(open_json_schema(Path(old.json_schema)), open_json_schema(Path(new.json_schema)))
    if old.protobuf is not None and new.protobuf is not None:
        assert old.message is not None
        assert new.message is not None
        return protobuf_changes(
            open_message(Path(old.protobuf), old.message), open_message(Path(new.protobuf), new.message)
        )
    was, now = (("JSON Schema" if each.json_schema is not None else "Protobuf") for each in (old, new))
    return [breaking("", f"the schema was {was}, is {now}")]
