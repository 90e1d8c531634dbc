"""Schemas as files: a JSON Schema with what it refers to, the message of a compiled descriptor set."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

INSTALL = "needs the extra jsonschema; install it with: pip install 'walnatsd[jsonschema]'"
MAX_ERROR_LENGTH = 300
_SIBLINGS_COUNT = 19  # from draft 2019-09 on, what stands beside a $ref applies too

_ONE = frozenset(
    {
        "items", "additionalItems", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else",
        "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
_LIST = frozenset({"items", "prefixItems", "allOf", "anyOf", "oneOf"})
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
_ELSEWHERE = frozenset({"$schema", "$id", "id", "$anchor", "$defs", "definitions"})
"""Keywords that say where a schema can be found, and nothing about payloads."""


@dataclass(frozen=True, slots=True)
class Subschema:
    """A JSON Schema, or a part of one, and where its references start from."""

    value: Any
    """An object or a boolean."""
    resolver: Any
    draft: int
    """4, 6, 7, 19 or 20."""

    def part(self, value: Any) -> "Subschema":
        """Go down to a schema that stands in this one."""
        own_id = value.get("id" if self.draft == 4 else "$id") if isinstance(value, dict) else None
        if isinstance(own_id, str):
            return Subschema(value, self.resolver.lookup(own_id).resolver, self.draft)
        return Subschema(value, self.resolver, self.draft)

    @property
    def ref(self) -> str | None:
        """What the schema refers to."""
        ref = self.value.get("$ref") if isinstance(self.value, dict) else None
        return ref if isinstance(ref, str) else None

    def uri(self, ref: str) -> str:
        """Write a reference in full."""
        base: str = self.resolver.base_uri
        return urljoin(base, ref)

    def target(self, ref: str) -> "Subschema":
        """Go to what a reference points to."""
        found = self.resolver.lookup(ref)
        return Subschema(found.contents, found.resolver, found.draft)

    @property
    def siblings_count(self) -> bool:
        """Whether what stands beside a `$ref` applies too."""
        return self.draft >= _SIBLINGS_COUNT


def open_json_schema(path: Path) -> Subschema:
    """Read a JSON Schema and the files that it refers to.

    Raises:
        ValueError: One of them can't be read; in words.
    """
    try:
        import jsonschema_rs  # noqa: PLC0415 - optional, and 6 MB of memory
    except ImportError:
        raise ValueError(INSTALL) from None
    schema = read_json(path)
    uri = path.absolute().as_uri()
    try:
        registry = jsonschema_rs.Registry([(uri, schema)], retriever=read_uri)
        root = registry.resolver(uri).lookup(uri)
        return Subschema(schema, root.resolver, root.draft).part(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"{path}: {first_line(error)}") from None


def bundled(schema: Subschema, place: str, *, whole: bool = True) -> Any:
    """Write a JSON Schema as one value, with everything that it refers to in its own `definitions`.

    Args:
        schema: The schema.
        place: Where the value will stand in a document, as a reference to it.
        whole: Whether it is a whole file, or a part of one.
    """
    bundle = _Bundle(place, {schema.uri("#"): place} if whole else {})
    return bundle.written(schema)


class _Bundle:
    def __init__(self, place: str, references: dict[str, str]) -> None:
        self._place = place
        self._references = references
        self._definitions: dict[str, Any] = {}

    def written(self, root: Subschema) -> Any:
        value = self._write(root)
        return value | {"definitions": self._definitions} if self._definitions else value

    def _write(self, schema: Subschema) -> Any:
        if not isinstance(schema.value, dict):
            return schema.value
        kept = {key: part for key, part in schema.value.items() if key not in _ELSEWHERE}
        written = with_parts(kept, lambda part: self._write(schema.part(part)))
        return written | ({"$ref": self._refer(schema, schema.ref)} if schema.ref is not None else {})

    def _refer(self, schema: Subschema, ref: str) -> str:
        uri = schema.uri(ref)
        if uri not in self._references:
            name = self._new_name(uri)
            self._references[uri] = f"{self._place}/definitions/{name}"
            self._definitions[name] = {}  # takes its place in the order
            self._definitions[name] = self._write(schema.target(ref))
        return self._references[uri]

    def _new_name(self, uri: str) -> str:
        parts = urlsplit(unquote(uri))
        last = parts.fragment.rpartition("/")[2] or Path(parts.path).stem
        name = stem = re.sub(r"[^A-Za-z0-9_-]+", "-", last) or "schema"
        number = 2
        while name in self._definitions:
            name, number = f"{stem}-{number}", number + 1
        return name


def inlined(schema: Subschema, max_parts: int = 20_000) -> Any:
    """Write a JSON Schema with what it refers to in its place.

    Raises:
        RecursionError: It refers to itself, or it would grow beyond a bound.
    """
    left = max_parts

    def write(schema: Subschema, above: frozenset[str]) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise RecursionError
        if not isinstance(schema.value, dict):
            return schema.value
        kept = {key: part for key, part in schema.value.items() if key not in _ELSEWHERE and key != "$ref"}
        written = with_parts(kept, lambda part: write(schema.part(part), above))
        if schema.ref is None:
            return written
        uri = schema.uri(schema.ref)
        if uri in above:
            raise RecursionError
        target = write(schema.target(schema.ref), above | {uri})
        if not written or not schema.siblings_count:
            return target
        return written | {"allOf": [*written.get("allOf", []), target]}

    return write(schema, frozenset())


def with_parts(value: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Copy a schema with each schema in it changed."""
    result: dict[str, Any] = {}
    for key, part in value.items():
        if key in _LIST and isinstance(part, list):
            result[key] = [change(each) for each in part]
        elif key in _NAMED and isinstance(part, dict):
            result[key] = {name: each if isinstance(each, list) else change(each) for name, each in part.items()}
        elif key in _ONE:
            result[key] = change(part)
        else:
            result[key] = part
    return result


def read_json(path: Path) -> Any:
    """Read a file of JSON; raises ValueError in words."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {first_line(error)}") from None


def read_uri(uri: str) -> Any:
    """Read what a `$ref` points to; the file system is all there is."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        raise ValueError(f"$ref to {uri}: schemas are read from files only")
    return read_json(Path(unquote(parts.path)))


def open_message(path: Path, message: str) -> Any:
    """Read the descriptor of a message from a compiled descriptor set.

    Raises:
        ValueError: The file can't be used; in words.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: PLC0415 - without schemas nobody needs it
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    pool = descriptor_pool.DescriptorPool()
    try:
        for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
            pool.Add(file)
        return pool.FindMessageTypeByName(message)
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from None
    except DecodeError:
        raise ValueError(f"{path} is no descriptor set; make it with: protoc --include_imports -o FILE …") from None
    except KeyError:
        raise ValueError(f"{path} has no message {message!r}, or lacks what it imports (--include_imports)") from None
    except TypeError as error:
        raise ValueError(f"{path} can't be used: {first_line(error)}") from None


def first_line(error: object) -> str:
    """Say what an error says, in one line."""
    return str(error).partition("\n")[0][:MAX_ERROR_LENGTH] or type(error).__name__
