"""A Protobuf file as people write it, from its descriptor."""

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    Edition,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

_INDENT = "  "
_LAST_NUMBER = (1 << 29) - 1
_LAST_ENUM_NUMBER = (1 << 31) - 1


def proto_text(file: FileDescriptor) -> str:
    """Write the messages and enums of a file. Comments, services, extensions and most options are left out."""
    declared = FileDescriptorProto()
    file.CopyToProto(declared)
    return "\n".join(_Writer(declared).lines()) + "\n"


class _Writer:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._labels = file.syntax in ("", "proto2")

    def lines(self) -> Iterator[str]:
        file = self._file
        if file.syntax == "editions":
            yield f'edition = "{Edition.Name(file.edition).removeprefix("EDITION_")}";'
        else:
            yield f'syntax = "{file.syntax or "proto2"}";'
        if file.package:
            yield f"package {file.package};"
        for path in file.dependency:
            yield f'import "{path}";'
        for enum in file.enum_type:
            yield from _enum(enum, "")
        for message in file.message_type:
            yield from self._message(message, "")

    def _message(self, message: DescriptorProto, indent: str) -> Iterator[str]:
        yield f"{indent}message {message.name} {{"
        yield from self._body(message, indent + _INDENT)
        yield f"{indent}}}"

    def _body(self, message: DescriptorProto, indent: str) -> Iterator[str]:
        numbers = ((each.start, each.end - 1) for each in message.reserved_range)
        yield from _reserved(numbers, message.reserved_name, indent, last=_LAST_NUMBER)
        for enum in message.enum_type:
            yield from _enum(enum, indent)
        written_elsewhere = {
            field.type_name.rpartition(".")[2]
            for field in message.field
            if field.type == FieldDescriptorProto.TYPE_GROUP
        }
        for nested in message.nested_type:
            if not nested.options.map_entry and nested.name not in written_elsewhere:
                yield from self._message(nested, indent)
        begun: set[int] = set()
        for field in message.field:
            if not field.HasField("oneof_index") or field.proto3_optional:
                yield from self._field(message, field, indent)
            elif field.oneof_index not in begun:
                begun.add(field.oneof_index)
                yield f"{indent}oneof {message.oneof_decl[field.oneof_index].name} {{"
                for each in message.field:
                    if each.HasField("oneof_index") and each.oneof_index == field.oneof_index:
                        yield from self._field(message, each, indent + _INDENT)
                yield f"{indent}}}"

    def _field(self, message: DescriptorProto, field: FieldDescriptorProto, indent: str) -> Iterator[str]:
        nested = {each.name: each for each in message.nested_type}
        entry = nested.get(field.type_name.rpartition(".")[2])
        label = ""
        if entry is not None and entry.options.map_entry:
            of = f"map<{', '.join(_type(each) for each in entry.field)}>"
        else:
            of = _type(field)
            if field.label == FieldDescriptorProto.LABEL_REPEATED:
                label = "repeated "
            elif field.label == FieldDescriptorProto.LABEL_REQUIRED:
                label = "required "
            elif field.proto3_optional or (self._labels and not field.HasField("oneof_index")):
                label = "optional "
        if field.type == FieldDescriptorProto.TYPE_GROUP and entry is not None:
            yield f"{indent}{label}group {entry.name} = {field.number} {{"
            yield from self._body(entry, indent + _INDENT)
            yield f"{indent}}}"
            return
        renamed = f' [json_name = "{field.json_name}"]' if field.json_name not in ("", _json_name(field.name)) else ""
        yield f"{indent}{label}{of} {field.name} = {field.number}{renamed};"


def _enum(enum: EnumDescriptorProto, indent: str) -> Iterator[str]:
    yield f"{indent}enum {enum.name} {{"
    if enum.options.allow_alias:
        yield f"{indent}{_INDENT}option allow_alias = true;"
    numbers = ((each.start, each.end) for each in enum.reserved_range)
    yield from _reserved(numbers, enum.reserved_name, indent + _INDENT, last=_LAST_ENUM_NUMBER)
    for value in enum.value:
        yield f"{indent}{_INDENT}{value.name} = {value.number};"
    yield f"{indent}}}"


def _reserved(numbers: Iterable[tuple[int, int]], names: Iterable[str], indent: str, *, last: int) -> Iterator[str]:
    ranges = [f"{start}" if start == end else f"{start} to {'max' if end == last else end}" for start, end in numbers]
    if ranges:
        yield f"{indent}reserved {', '.join(ranges)};"
    if quoted := [f'"{name}"' for name in names]:
        yield f"{indent}reserved {', '.join(quoted)};"


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _json_name(name: str) -> str:
    """Give the name that a field has in JSON where nothing else is said."""
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)
