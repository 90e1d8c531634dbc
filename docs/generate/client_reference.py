"""The reference of the Python client, from its docstrings."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import walnatsd_client
from walnatsd_client import testing

_HEAD = """# Python client: reference

Everything that `walnatsd_client` exports, from its docstrings. [The Python client](../client.md) tells how it is used.
"""
_SECTIONS = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$", re.MULTILINE)
_GROUPS = {
    "Connections": (
        "connect", "Connection", "connect_sync", "SyncConnection", "Tls", "Receipt", "Registered", "Feed", "Seen",
    ),
    "Declarations": (
        "Event", "EventWithResponse", "Limits", "Actor", "BatchActor", "Batch", "RetryPolicy", "RateLimit", "MatchTime",
        "OrderHeader", "Breaker",
    ),
    "Handlers": ("asgi_app", "current_delivery", "Delivery", "Reject", "Retry", "require", "suppress"),
    "Payloads": ("Serializer", "MessagePack", "CloudEvent"),
}  # fmt: skip


def page() -> str:
    """Give the whole page.

    Raises:
        AssertionError: A name is exported and belongs to no group.
    """
    errors = [name for name in walnatsd_client.__all__ if name.endswith("Error")]
    groups = _GROUPS | {"Errors": tuple(errors)}
    named = {name for names in groups.values() for name in names}
    assert named == set(walnatsd_client.__all__) - {"__version__"}, named ^ set(walnatsd_client.__all__)
    parts = [_HEAD]
    for group, names in groups.items():
        parts.append(f"## {group}\n")
        for name in names:
            parts += _thing(name, getattr(walnatsd_client, name))
    parts.append("## In memory, for tests: `walnatsd_client.testing`\n")
    for name in testing.__all__:
        parts += _thing(f"testing.{name}", getattr(testing, name))
    return "\n".join(parts).rstrip() + "\n"


def _thing(name: str, thing: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if not inspect.isclass(thing):
        yield from _call(name, thing)
        return
    if not (_takes_nothing(thing) or issubclass(thing, Exception)):
        yield f"```text\n{name}{_signature(thing)}\n```\n"
    bases = [base.__name__ for base in thing.__bases__ if base.__module__.startswith(("walnatsd_client", "builtins"))]
    if issubclass(thing, Exception):
        yield f"A kind of `{bases[0]}`.\n"
    yield _text(inspect.getdoc(thing) if thing.__doc__ and not _made_by_dataclass(thing) else None)
    fields = list(_fields(thing))
    if fields:
        yield "| field | meaning |\n|---|---|"
        yield from (f"| `{field}` | {meaning} |" for field, meaning in fields)
        yield ""
    for attribute, value in vars(thing).items():
        if attribute.startswith("_"):
            continue
        if isinstance(value, property):
            yield f"#### {name}.{attribute}\n\n{_text(inspect.getdoc(value))}"
        elif inspect.isfunction(value):
            yield f"#### {name}.{attribute}\n"
            yield from _call(attribute, value)


def _call(name: str, function: Any) -> Iterator[str]:
    word = "await " if inspect.iscoroutinefunction(function) else ""
    yield f"```text\n{word}{name.rpartition('.')[2]}{_signature(function)}\n```\n"
    yield _text(inspect.getdoc(function))


def _signature(thing: Any) -> str:
    signature = inspect.signature(thing)
    kept = [each for each in signature.parameters.values() if each.name != "self" and not each.name.startswith("_")]
    parts, named = [], False
    for parameter in kept:
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            named = True
            parts.append("*")
        named = named or parameter.kind is parameter.VAR_POSITIONAL
        parts.append(_parameter(parameter))
    returned = (
        ""
        if signature.return_annotation in (signature.empty, None, "None") or inspect.isclass(thing)
        else (f" -> {_annotation(signature.return_annotation)}")
    )
    one_line = f"({', '.join(parts)}){returned}"
    if len(one_line) < 90:
        return one_line
    return "(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def _parameter(parameter: inspect.Parameter) -> str:
    star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = star + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        shown = repr(parameter.default)
        text += f" = {'…' if shown.startswith('<') or ' at 0x' in shown else shown}"
    return text


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+([A-Z])", r"\1", text).replace("~", "")


def _takes_nothing(thing: type) -> bool:
    return inspect.isabstract(thing) or getattr(thing, "_is_protocol", False)


def _made_by_dataclass(thing: type) -> bool:
    return dataclasses.is_dataclass(thing) and (thing.__doc__ or "").startswith(f"{thing.__name__}(")


def _fields(thing: type) -> Iterator[tuple[str, str]]:
    """Go through the annotated fields that have a docstring below them."""
    for owner in reversed(thing.__mro__[:-1]):
        if not owner.__module__.startswith("walnatsd_client"):
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and not field.target.id.startswith("_")
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                yield field.target.id, " ".join(str(below.value.value).split()).replace("|", "\\|")


def _text(docstring: str | None) -> str:
    """Write a docstring in Markdown: sections of the Google style become lists."""
    if not docstring:
        return ""
    parts = _SECTIONS.split(docstring)
    lines = [parts[0].strip(), ""]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        content = textwrap.dedent(body.strip("\n")).rstrip()
        after = ""
        if "\n\n" in content:
            content, _, after = content.partition("\n\n")
        named = re.sub(r"^(\*{0,2}[\w.]+):", r"- `\1`:", content, flags=re.MULTILINE)
        lines += [f"**{title}**\n", re.sub(r"\n +", " ", named), "", after.strip(), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"
