"""YAML with the two things that the parser leaves out: duplicate keys are errors, and every value knows its line."""

from typing import Any

import yaml

from walnatsd.config.problems import Location, Problem

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str) -> tuple[Any, dict[Location, int], list[Problem]]:
    """Read one YAML document.

    Returns:
        The data, the line of each key and item, and what is wrong with the document.
    """
    lines: dict[Location, int] = {}
    problems: list[Problem] = []
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, lines, problems
        _walk(node, (), lines, problems)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        source = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return None, lines, [Problem((), f"not valid YAML: {error.problem}", source)]
    except (yaml.YAMLError, ValueError) as error:
        return None, lines, [Problem((), f"not valid YAML: {error}")]
    finally:
        loader.dispose()
    return data, lines, problems


def _walk(node: yaml.Node, location: Location, lines: dict[Location, int], problems: list[Problem]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*location, str(key.value))
            line = key.start_mark.line + 1
            if below in lines:
                problems.append(Problem(below, f"the key stands twice, first in line {lines[below]}", f"line {line}"))
            lines[below] = line
            _walk(value, below, lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[*location, index] = value.start_mark.line + 1
            _walk(value, (*location, index), lines, problems)
