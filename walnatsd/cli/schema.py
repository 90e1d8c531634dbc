"""`walnatsd schema`."""

import json

import click

from walnatsd.config.settings import Config


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the config file, for editors and CI."""
    schema = Config.model_json_schema()
    click.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema, indent=2))
