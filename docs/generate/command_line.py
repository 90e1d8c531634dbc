"""The reference of the command line, from what the commands say of themselves."""

from collections.abc import Iterator

import click

from walnatsd.cli import main

_HEAD = """# Command line

What `walnatsd COMMAND --help` says, of all commands. How they look on a terminal and in programs, what their exit codes mean, and
how the shell completes them: [commands](../operating/commands.md).
"""


def page() -> str:
    """Give the whole page."""
    context = main.make_context("walnatsd", ["run"], resilient_parsing=True)
    return "\n".join([_HEAD, *_of(context)]).rstrip() + "\n"


def _of(context: click.Context) -> Iterator[str]:
    command = context.command
    if isinstance(command, click.Group):
        if context.parent is not None:
            yield f"## {context.command_path}\n\n{command.help}\n"
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _of(click.Context(below, info_name=name, parent=context))
        return
    depth = "##" if context.parent is not None and context.parent.parent is None else "###"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"{depth} {context.command_path}\n\n```text\n{usage}\n```\n\n{(command.help or '').replace(chr(8), '')}\n"
    if records := [record for each in command.get_params(context) if (record := each.get_help_record(context))]:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{option}` | {_cell(meaning)} |" for option, meaning in records)
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
