"""The reference of the config file, from its JSON Schema."""

import re
from collections.abc import Iterator
from typing import Any

from walnatsd.config.settings import Config

Schema = dict[str, Any]
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_HEAD = """# Config file

Every option, with its default. The file is YAML: `walnatsd run -c FILE`, else `walnatsd.yaml` in the working directory where there
is one. `walnatsd schema` prints the JSON Schema that this page is made from; editors that know JSON Schema complete and check with it.

- A **duration** is seconds as a number, or like `250ms`, `30s`, `5m`, `2h`, `7d`.
- A **size** is bytes as a number, or like `64KiB`, `10MiB`, `1GiB`.
- A **secret** is `{env: NAME}` or `{file: PATH}`; it never stands in the file itself.
- A relative **path** is relative to the file.
- Unknown and duplicate keys are errors. All errors are reported at once, each with its place.
- Everything outside `events`, `actors` and `clocks` can be set from the environment: `WALNATSD_NATS__SERVERS` is `nats.servers`;
  lists are separated by commas.
"""
_EXAMPLES = {
    "service": "service: {name: warehouse}",
    "nats": "nats:\n  servers: [tls://nats-1.example:4222, tls://nats-2.example:4222]\n  credentials_file: walnatsd.creds",
    "http": "http: {listen: 'unix:/run/walnatsd/http.sock'}",
    "monitoring": "monitoring: {listen: 0.0.0.0:7523}",
    "emit": "emit: {timeout: 5s}",
    "spool": "spool: {path: ./spool.db, max_bytes: 1GiB, max_age: 1d}",
    "dead_letters": "dead_letters: {age: 30d, bytes: 10GiB, pause_actor_after: 100}",
    "log": "log: {level: warning, format: json}",
    "events": """events:
  - name: parcel-sent
    description: A parcel left the warehouse.
    limits: {age: 7d, bytes: 1GiB, message_size: 64KiB, when_full: refuse}
    duplicate_window: 2m
    replicas: 3
    min_actors: 1
    codecs: [{gzip: {level: 9}}]
    schema: {json_schema: schemas/parcel-sent.json}
    example: {parcel_id: 7, status: sent}""",
    "actors": """actors:
  - name: send-email
    event: parcel-sent
    description: Tells the customer.
    url: http://127.0.0.1:8000/send-email
    retry: {delays: [500ms, 5s, 1m], max_attempts: 10}
    rate_limit: {jobs: 32, period: 60s}
    filter: 'data.status == "sent"'
    order_by: /parcel_id
    headers: {Authorization: {env: ACTOR_AUTH}}
    signing_secrets: [{env: WEBHOOK_SECRET}]
    breaker: {consecutive: 5, open_for: 30s}""",
    "clocks": "clocks:\n  - event: noon-passed\n    cron: '0 12 * * MON-FRI'\n    timezone: Europe/Berlin",
}


def page() -> str:
    """Give the whole page."""
    schema = Config.model_json_schema()
    definitions: dict[str, Schema] = schema["$defs"]
    top = [(name, option) for name, option in schema["properties"].items() if _definition(option) is None]
    parts = [_HEAD, "## Outside of sections\n", *_rows(top, definitions, {})]
    places = {name: place for place, name, _ in reversed(list(_sections(schema, definitions)))}
    for place, name, option in _sections(schema, definitions):
        if places[name] == place:
            parts += _section(place, option, definitions[name], definitions, places)
    return "\n".join(parts).rstrip() + "\n"


def _sections(schema: Schema, definitions: dict[str, Schema], below: str = "") -> Iterator[tuple[str, str, Schema]]:
    """Go through the sections, each with its place, the name of its definition, and the option that it is."""
    for key, option in schema["properties"].items():
        name = _definition(option)
        if name is not None and name != "Secret":
            yield f"{below}{key}", name, option
            yield from _sections(definitions[name], definitions, f"{below}{key}.")


def _section(
    place: str, option: Schema, definition: Schema, definitions: dict[str, Schema], places: dict[str, str]
) -> Iterator[str]:
    yield f"\n## {place}\n"
    yield option.get("description") or definition["description"]
    if option.get("type") == "array":
        yield "A list; these are the keys of each."
    if option.get("default", {}) is None:
        yield "Off where it is not given."
    yield ""
    options = list(definition["properties"].items())
    yield from _rows(options, definitions, places, set(definition.get("required", ())), place)
    if place in _EXAMPLES:
        yield f"\n```yaml\n{_EXAMPLES[place]}\n```"


def _rows(
    options: list[tuple[str, Schema]],
    definitions: dict[str, Schema],
    places: dict[str, str],
    required: set[str] | None = None,
    place: str = "",
) -> Iterator[str]:
    yield "| option | what it takes | default | meaning |"
    yield "|---|---|---|---|"
    for name, option in options:
        default = "must be given" if name in (required or ()) else _default(name, option, place)
        meaning = (option.get("description") or _definition_text(option, definitions)).replace("|", "\\|")
        kind = _kind(option)
        if (at := places.get(_definition(option) or "")) is not None:
            kind = re.sub(r"\bsection(s?)\b", rf"[section\1](#{at.replace('.', '')})", kind)
        yield f"| `{name}` | {kind} | {default} | {' '.join(meaning.split())} |"


def _kind(option: Schema) -> str:
    """Say what an option takes."""
    if "enum" in option:
        return " or ".join(f"`{value}`" for value in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    if reference := option.get("$ref"):
        name = reference.rpartition("/")[2]
        return "secret" if name == "Secret" else "section"
    if "anyOf" in option:
        choices = option["anyOf"]
        if pattern := next((each["pattern"] for each in choices if "(" in each.get("pattern", "")), None):
            return "duration" if "ms|" in pattern else "size"
        kinds = [_kind(each) for each in choices if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    return _plain_kind(option)


def _plain_kind(option: Schema) -> str:
    match option.get("type"):
        case "array":
            return f"list of {_plural(_kind(option['items']))}"
        case "object":
            values = option.get("additionalProperties")
            if isinstance(values, dict):
                return f"map to {_kind(values)}"
            return f"`{{{', '.join(option['properties'])}}}`"
        case "integer" | "number" as number:
            return ("whole number" if number == "integer" else "number") + _bounds(option)
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "text"
    return "anything"


def _plural(kind: str) -> str:
    return kind if kind.startswith(("`", "text", "anything")) else re.sub(r"^(whole number|\w+)", r"\1s", kind)


def _bounds(option: Schema) -> str:
    lowest = option.get("minimum", 1 if option.get("exclusiveMinimum") == 0 and option["type"] == "integer" else None)
    highest = option.get("maximum")
    if lowest is not None and highest is not None:
        return f", {lowest} to {highest}"
    return f", {lowest} or more" if lowest is not None else ""


def _default(name: str, option: Schema, place: str) -> str:
    if (place, name) == ("service", "name"):
        return "the host name"
    if _definition(option) is not None and option.get("type") != "array":
        return "-" if option.get("default") is None else "see below"
    if "default" not in option or option["default"] in (None, [], {}):
        return "-"
    return f"`{_written(option['default'], _kind(option))}`"


def _written(value: object, kind: str) -> str:
    """Write a value as it would stand in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_written(each, "") for each in value) + "]"
    if kind == "duration" and isinstance(value, int | float):
        return _duration(value)
    if kind == "size" and isinstance(value, int):
        return next((f"{value // size}{unit}" for unit, size in _SIZES if value and value % size == 0), str(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _duration(seconds: float) -> str:
    if seconds and seconds < 1:
        return f"{seconds * 1000:g}ms"
    whole = (f"{seconds / size:g}{unit}" for unit, size in _UNITS if seconds and seconds % size == 0)
    return next(whole, f"{seconds:g}s")


def _definition(option: Schema) -> str | None:
    """Give the name of the section that an option is, or is a list of."""
    for each in (option, option.get("items", {}), *option.get("anyOf", ())):
        if reference := each.get("$ref"):
            return str(reference.rpartition("/")[2])
    return None


def _definition_text(option: Schema, definitions: dict[str, Schema]) -> str:
    name = _definition(option)
    return str(definitions[name]["description"]) if name else ""
