"""Two versions of a Protobuf message: do payloads of the old one still read the same, in binary and in JSON?"""

from collections.abc import Iterator

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from walnatsd.payload.schema_change import SchemaChange, breaking, compatible

_TYPE_NAMES = {
    value.number: value.name.removeprefix("TYPE_").lower()
    for value in descriptor_pb2.FieldDescriptorProto.Type.DESCRIPTOR.values
}
_WIDER = frozenset({("int32", "int64"), ("uint32", "uint64"), ("sint32", "sint64")})
"""Types that can become another one that reads the same bytes as the same number."""


def protobuf_changes(old: Descriptor, new: Descriptor) -> list[SchemaChange]:
    """Compare two versions of a message and of all messages and enums in it."""
    return list(_Comparison().messages(old, new, ""))


class _Comparison:
    def __init__(self) -> None:
        self._met: set[tuple[str, str]] = set()

    def messages(self, old: Descriptor, new: Descriptor, place: str) -> Iterator[SchemaChange]:
        if (old.full_name, new.full_name) in self._met:
            return
        self._met.add((old.full_name, new.full_name))
        reserved = _reserved(new)
        for number, was in sorted(old.fields_by_number.items()):
            below = f"{place}/{was.name}"
            now, namesake = new.fields_by_number.get(number), new.fields_by_name.get(was.name)
            if now is not None and (now.name == was.name or namesake is None):
                yield from self._fields(was, now, below)
            elif namesake is not None:
                yield breaking(below, f"the number was {number}, is {namesake.number}")
            elif _holds(reserved, number):
                yield compatible(below, f"is gone, its number {number} is reserved; JSON that has it is turned away")
            else:
                yield breaking(below, f"is gone, and its number is free for another; write: reserved {number};")
        were_reserved = _reserved(old)
        for number, now in sorted(new.fields_by_number.items()):
            if number in old.fields_by_number or now.name in old.fields_by_name:
                continue
            below = f"{place}/{now.name}"
            if _holds(were_reserved, number):
                yield breaking(below, f"is new under the number {number}, which was reserved: another field had it")
            elif now.is_required:
                yield breaking(below, "is new and required")
            else:
                yield compatible(below, "is new")

    def _fields(self, old: FieldDescriptor, new: FieldDescriptor, place: str) -> Iterator[SchemaChange]:
        if old.name != new.name and old.json_name != new.json_name:
            yield breaking(place, f"is called {new.name} now; JSON has it under its old name")
        was, now = _type(old), _type(new)
        if was != now:
            message = f"the type was {was}, is {now}"
            wider = old.is_repeated == new.is_repeated and (_TYPE_NAMES[old.type], _TYPE_NAMES[new.type]) in _WIDER
            yield compatible(place, message) if wider else breaking(place, message)
            return
        if old.is_required != new.is_required:
            yield (
                breaking(place, "is required now") if new.is_required else compatible(place, "is not required any more")
            )
        if _oneof(old) != _oneof(new):
            yield breaking(place, f"was in {_oneof(old) or 'no oneof'}, is in {_oneof(new) or 'no oneof'}")
        if old.message_type is not None and new.message_type is not None:
            yield from self.messages(old.message_type, new.message_type, place)
        if old.enum_type is not None and new.enum_type is not None:
            yield from _enums(old.enum_type, new.enum_type, place)


def _enums(old: EnumDescriptor, new: EnumDescriptor, place: str) -> Iterator[SchemaChange]:
    reserved = _reserved(new)
    for was in old.values:
        now, namesake = new.values_by_number.get(was.number), new.values_by_name.get(was.name)
        if namesake is not None and namesake.number == was.number:
            continue
        if namesake is not None:
            yield breaking(place, f"the number of {was.name} was {was.number}, is {namesake.number}")
        elif now is not None:
            yield breaking(place, f"{was.name} is called {now.name} now; JSON has the old name")
        elif _holds(reserved, was.number):
            yield compatible(
                place, f"{was.name} is gone, its number {was.number} is reserved; JSON that has it is turned away"
            )
        else:
            yield breaking(
                place, f"{was.name} is gone, and its number is free for another; write: reserved {was.number};"
            )
    for now in new.values:
        if now.number not in old.values_by_number and now.name not in old.values_by_name:
            yield compatible(place, f"{now.name} is new")


def _type(field: FieldDescriptor) -> str:
    """Write the type of a field, so that two that are written alike can be read alike."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"map<{_type(key)}, {_type(value)}>"
    name = _TYPE_NAMES[field.type]
    if field.message_type is not None and field.message_type.file.package == "google.protobuf":
        name = field.message_type.full_name  # these have forms of their own in JSON
    return f"repeated {name}" if field.is_repeated else name


def _oneof(field: FieldDescriptor) -> str:
    """Name the oneof of a field; one that only says that the field may be absent counts for nothing."""
    oneof = field.containing_oneof
    return "" if oneof is None or len(oneof.fields) == 1 else str(oneof.name)


def _reserved(declared: Descriptor | EnumDescriptor) -> list[tuple[int, int]]:
    """Give the ranges of reserved numbers, their ends included."""
    if isinstance(declared, EnumDescriptor):
        enum = descriptor_pb2.EnumDescriptorProto()
        declared.CopyToProto(enum)
        return [(each.start, each.end) for each in enum.reserved_range]
    message = descriptor_pb2.DescriptorProto()
    declared.CopyToProto(message)
    return [(each.start, each.end - 1) for each in message.reserved_range]


def _holds(ranges: list[tuple[int, int]], number: int) -> bool:
    return any(start <= number <= end for start, end in ranges)
