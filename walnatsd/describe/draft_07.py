"""JSON Schemas in draft 07, the one that every tool for AsyncAPI reads."""

from pathlib import Path
from typing import Any

from walnatsd.payload.schema_files import bundled, open_json_schema, with_parts


def as_draft_07(path: str, place: str) -> Any:
    """Write a JSON Schema of any draft in draft 07, with all that it refers to. What draft 07 has no word for is left.

    Args:
        path: The file.
        place: Where it will stand in a document, as a reference to it.

    Raises:
        ValueError: It can't be read; in words.
    """
    schema = open_json_schema(Path(path))
    return _translated(bundled(schema, place), siblings_count=schema.siblings_count)


def _translated(value: Any, *, siblings_count: bool) -> Any:
    if not isinstance(value, dict):
        return value

    def below(part: Any) -> Any:
        return _translated(part, siblings_count=siblings_count)

    written = with_parts(value, below)
    if "definitions" in written:
        written["definitions"] = {name: below(part) for name, part in written["definitions"].items()}
    for plain, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(written.get(exclusive), bool) and written.pop(exclusive) and plain in written:
            written[exclusive] = written.pop(plain)
    if "prefixItems" in written:
        if "items" in written:
            written["additionalItems"] = written["items"]
        written["items"] = written.pop("prefixItems")
    dependent = written.pop("dependentRequired", {}) | written.pop("dependentSchemas", {})
    if dependent:
        written["dependencies"] = dependent
    if siblings_count and "$ref" in written and len(written) > 1:
        written["allOf"] = [*written.get("allOf", []), {"$ref": written.pop("$ref")}]
    return written
