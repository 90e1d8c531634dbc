"""`walnatsd schema`."""

import json
from typing import Any

import click

from walnatsd.config.settings import Config


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the config file, for editors and CI."""
    click.echo(json.dumps(config_schema(), indent=2))


def config_schema() -> dict[str, Any]:
    """Give the JSON Schema of the config file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema()
