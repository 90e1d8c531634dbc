"""Strategies for messages of the contract: any value in any field, and often one that means something there."""

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Known = dict[str, list[Any]]
"""Values that mean something, by the name of the field."""

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}


def messages(message: type[Message], known: Known) -> st.SearchStrategy[Message]:
    """Messages of a type."""
    return _messages(message.DESCRIPTOR, known)


def wires(message: type[Message], known: Known) -> st.SearchStrategy[bytes]:
    """What may come over the wire where a message of this type is expected: one, one with damage, or anything."""
    good = messages(message, known).map(lambda made: made.SerializeToString())
    return good | good | good | st.binary(max_size=40) | _damaged(good)


@st.composite
def _damaged(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    raw = draw(good)
    begin = draw(st.integers(0, len(raw)))
    end = draw(st.integers(begin, min(len(raw), begin + 4)))
    return raw[:begin] + draw(st.binary(max_size=4)) + raw[end:]


@st.composite
def _messages(draw: st.DrawFn, descriptor: Descriptor, known: Known) -> Message:
    made: Message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.booleans()):
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            name, value = field.message_type.fields
            pairs = st.dictionaries(_scalars(name, known, field.name), _scalars(value, known), max_size=3)
            getattr(made, field.name).update(draw(pairs))
        elif field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(_values(field, known), max_size=3)))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(draw(_messages(field.message_type, known)))
        else:
            setattr(made, field.name, draw(_scalars(field, known)))
    return made


def _values(field: FieldDescriptor, known: Known) -> st.SearchStrategy[Any]:
    return _scalars(field, known) if field.message_type is None else _messages(field.message_type, known)


def _scalars(field: FieldDescriptor, known: Known, name: str = "") -> st.SearchStrategy[Any]:
    anything = _anything(field)
    some = known.get(name or field.name)
    return anything if some is None else st.sampled_from(some) | st.sampled_from(some) | anything


def _anything(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.cpp_type in _INTEGERS:
        least, most = _INTEGERS[field.cpp_type]
        return st.integers(max(least, -2), 20) | st.integers(least, most)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return st.floats()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=20)
    return st.text(max_size=12)
