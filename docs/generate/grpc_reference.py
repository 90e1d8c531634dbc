"""The reference of the gRPC interface, from the comments of the contract in proto/."""

import re
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

CONTRACT = Path(__file__).parents[2] / "proto"
_FIELD, _NESTED, _MESSAGE, _SERVICE, _METHOD, _ONEOF = 2, 3, 4, 6, 2, 8
"""Numbers of the fields of descriptors, of which the places of comments consist (descriptor.proto)."""
_HEAD = """# gRPC

The package `walnatsd.v1`, on the gRPC address (`127.0.0.1:7520` unless the config says otherwise), with the standard health
service and server reflection. The `.proto` files are in [proto/](../../proto); this page is made from them.

A refusal is a gRPC status with `google.rpc.ErrorInfo`, whose `reason` says which it is. [All reasons](http.md#reasons).
"""
_KINDS = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
}


def page() -> str:
    """Give the whole page."""
    files = [file for file in _files() if file.package == "walnatsd.v1"]
    services = [line for file in files for line in _services(file)]
    messages = [line for file in files for line in _messages(file)]
    return "\n".join([_HEAD, *services, "## Messages\n", *messages]).rstrip() + "\n"


def _files() -> list[FileDescriptorProto]:
    sources = sorted(map(str, CONTRACT.glob("walnatsd/v1/*.proto")))
    well_known = Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.binpb"
        includes = [f"-I{each}" for each in (CONTRACT, sysconfig.get_path("purelib"), well_known)]
        status = protoc.main(["protoc", *includes, "--include_source_info", f"-o{image}", *sources])
        assert status == 0, "protoc failed"
        return list(FileDescriptorSet.FromString(image.read_bytes()).file)


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {
        tuple(place.path): " ".join(place.leading_comments.split())
        for place in file.source_code_info.location
        if place.leading_comments
    }


def _services(file: FileDescriptorProto) -> Iterator[str]:
    comments = _comments(file)
    for number, service in enumerate(file.service):
        yield f"## {service.name}\n\n{_safe(comments.get((_SERVICE, number), ''))}\n"
        yield "| call | takes | gives | meaning |\n|---|---|---|---|"
        yield from _calls(service, number, comments)
        yield ""


def _calls(service: ServiceDescriptorProto, number: int, comments: dict[tuple[int, ...], str]) -> Iterator[str]:
    for place, method in enumerate(service.method):
        takes = ("stream of " if method.client_streaming else "") + _linked(method.input_type)
        gives = ("stream of " if method.server_streaming else "") + _linked(method.output_type)
        meaning = _safe(comments.get((_SERVICE, number, _METHOD, place), ""))
        yield f"| `{method.name}` | {takes} | {gives} | {meaning} |"


def _messages(file: FileDescriptorProto) -> Iterator[str]:
    comments = _comments(file)
    for number, message in enumerate(file.message_type):
        yield from _message(message, message.name, (_MESSAGE, number), comments)


def _message(
    message: DescriptorProto, name: str, place: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[str]:
    yield f"### {name}\n\n{_safe(comments.get(place, ''))}\n"
    maps = {each.name: each for each in message.nested_type if each.options.map_entry}
    if message.field:
        yield "| field | number | type | meaning |\n|---|---|---|---|"
    for number, field in enumerate(message.field):
        meaning = comments.get((*place, _FIELD, number), "")
        if field.HasField("oneof_index") and not field.proto3_optional:
            meaning += f" One of `{message.oneof_decl[field.oneof_index].name}`."
        yield f"| `{field.name}` | {field.number} | {_type(field, maps)} | {_safe(meaning)} |"
    yield ""
    for number, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(nested, f"{name}.{nested.name}", (*place, _NESTED, number), comments)


def _type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    if (entry := maps.get(field.type_name.rpartition(".")[2])) is not None:
        key, value = entry.field
        return f"map of {_type(key, {})} to {_type(value, {})}"
    kind = _KINDS[field.type] if field.type in _KINDS else _linked(field.type_name)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {kind}"
    return f"{kind}, optional" if field.proto3_optional else kind


def _linked(type_name: str) -> str:
    name = type_name.removeprefix(".")
    if not name.startswith("walnatsd.v1."):
        return f"`{name}`"
    short = name.removeprefix("walnatsd.v1.")
    return f"[{short}](#{short.lower().replace('.', '')})"


def _safe(text: str) -> str:
    """Write a comment so that a table bears it and patterns stay as they are."""
    text = re.sub(r"(\[A-Za-z0-9_-\]\S*?)([,;]? |$)", r"`\1`\2", text)
    return text.replace("|", "\\|").replace("ce-*", "`ce-*`")
