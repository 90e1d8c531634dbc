"""YAML with what the parser leaves out: duplicate keys are errors, keys are text, and every value knows its line."""

from typing import Any

import yaml

from walnatsd.config.problems import Location, Problem

MAX_DEPTH = 50
MAX_VALUES = 200_000
"""Aliases of aliases can stand for any number of values."""

_YAML = "tag:yaml.org,2002:"
_MERGE, _TEXT = f"{_YAML}merge", f"{_YAML}str"
_READ_AS = {
    f"{_YAML}{kind}": f"{_YAML}{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
} | {
    f"{_YAML}timestamp": _TEXT  # JSON has no dates, and an event may be called 2026-01-01
}

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What the constructors of the library let through for values like `!!int ""`, besides errors of their own.
_BAD_VALUES = (ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


def parse(text: str) -> tuple[Any, dict[Location, int], list[Problem]]:
    """Read one YAML document.

    Returns:
        The data, the line of each key and item, and what is wrong with the document. The data is None where the document
        can't be used at all.
    """
    walk = _Walk()
    try:
        loader = _Loader(text)
    except (yaml.YAMLError, UnicodeError) as error:
        return None, walk.lines, [Problem((), f"not valid YAML: {error}")]
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, walk.lines, walk.problems
        walk.down(node, (), frozenset())
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        source = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return None, walk.lines, [Problem((), f"not valid YAML: {error.problem}", source)]
    except yaml.YAMLError as error:
        return None, walk.lines, [Problem((), f"not valid YAML: {' '.join(str(error).split())}")]
    except _BAD_VALUES as error:
        return None, walk.lines, [Problem((), f"not valid YAML: a value is not what its tag says: {error}")]
    finally:
        loader.dispose()
    return data, walk.lines, walk.problems


class _Walk:
    """A walk through a document before it is turned into data."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def down(self, node: yaml.Node, location: Location, above: frozenset[int]) -> None:
        """Note lines and duplicate keys at and below a node.

        Raises:
            yaml.MarkedYAMLError: The document can't be used.
        """
        self._values += 1
        if id(node) in above:
            raise _unusable(node, "an alias must not stand for what holds it")
        if len(above) > MAX_DEPTH:
            raise _unusable(node, f"nested more than {MAX_DEPTH} levels deep")
        if self._values > MAX_VALUES:
            raise _unusable(node, f"more than {MAX_VALUES} values, those that aliases stand for counted each time")
        if node.tag not in _READ_AS:
            raise _unusable(node, f"{node.tag.replace(_YAML, '!!')} has no meaning here")
        node.tag = _READ_AS[node.tag]
        above |= {id(node)}
        if isinstance(node, yaml.MappingNode):
            self._down_mapping(node, location, above)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*location, index] = item.start_mark.line + 1
                self.down(item, (*location, index), above)

    def _down_mapping(self, node: yaml.MappingNode, location: Location, above: frozenset[int]) -> None:
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _unusable(key, "a key is text")
            if key.tag != _MERGE:
                key.tag = _TEXT  # `on:` and `1:` are not true and one
            below, line = (*location, key.value), key.start_mark.line + 1
            if key.value in seen:
                first = f"the key stands twice, first in line {seen[key.value]}; remove one"
                self.problems.append(Problem(below, first, f"line {line}"))
            seen.setdefault(key.value, line)
            self.lines[below] = line
            self.down(value, below, above)


def _unusable(node: yaml.Node, why: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=node.start_mark)
