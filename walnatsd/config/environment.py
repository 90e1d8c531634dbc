"""Settings from the environment: `WALNATSD_NATS__SERVERS` stands for `nats.servers`."""

import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from walnatsd.config.problems import Location
from walnatsd.config.settings import Config

PREFIX = "WALNATSD_"
_ON = frozenset({"true", "1", "yes", "on"})
_OF_CALLERS = frozenset({"WALNATSD_TOKEN", "WALNATSD_CA_FILE", "WALNATSD_CERT_FILE", "WALNATSD_KEY_FILE"})
"""Read by the commands that talk to a daemon, and by the clients; the daemon may run in the same environment."""
_DECLARATIONS = frozenset({"events", "actors", "clocks"})


def overlay(data: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[Location, str], list[str]]:
    """Write what the environment says over what the file says.

    Returns:
        Which variable set which place, and a warning for each variable that names no setting.
    """
    origins: dict[Location, str] = {}
    warnings = []
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in _OF_CALLERS:
            continue
        location = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        annotation = _annotation_at(location)
        if annotation is None:
            warnings.append(f"the environment variable {variable} names no setting and is ignored")
            continue
        here = data
        for part in location[:-1]:
            below = here.get(part)
            if not isinstance(below, dict):
                below = here[part] = {}
            here = below
        text = environ[variable]
        if isinstance(here.get(location[-1]), dict) and text.lower() in _ON:
            continue  # it is on already, and described in detail
        here[location[-1]] = (
            [part.strip() for part in text.split(",") if part.strip()] if _is_list(annotation) else text
        )
        origins[location] = variable
    return origins, warnings


def _annotation_at(location: tuple[str, ...]) -> Any:
    """Find the type of a setting, None where there is none."""
    if location[0] in _DECLARATIONS:
        return None
    candidates: list[Any] = [Config]
    annotation: Any = None
    for part in location:
        fields = [model.model_fields[part] for model in candidates if part in model.model_fields]
        if not fields:
            return None
        annotation = fields[0].annotation
        candidates = [each for each in _branches(annotation) if _is_model(each)]
    return annotation


def _branches(annotation: Any) -> tuple[Any, ...]:
    """List the branches of a union; of another type, just itself."""
    return typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_list(annotation: Any) -> bool:
    return any(typing.get_origin(each) is tuple for each in _branches(annotation))
