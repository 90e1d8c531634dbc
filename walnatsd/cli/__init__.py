"""The command line. Each command's file is imported when the command is used, so that all of them start fast."""

import importlib
import os

import click

from walnatsd import __version__
from walnatsd.cli.shown import did_you_mean

# Read by gRPC when it is imported. Children of the daemon exec at once, so gRPC need not survive a fork, and its warning
# about that would only confuse.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Read likewise. gRPC writes a line, in a form of its own, for every caller that fails at TLS: anybody could fill the log.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Read by libuv when a name is resolved for the first time. It lets half of its threads, of which it has four, wait for
# DNS at once: two actors with dead names would hold up all others.
os.environ.setdefault("UV_THREADPOOL_SIZE", "64")

_COMMANDS = {
    "run": "Run the daemon.",
    "check": "Check a config file.",
    "apply": "Register the declared events and actors in NATS, and exit.",
    "docs": "Describe services, events and actors: AsyncAPI, D2, Mermaid.",
    "schema": "Print the JSON Schema of the config file.",
    "emit": "Emit an event through a running daemon.",
    "request": "Emit an event, and print what a responding actor answers.",
    "scheduled": "List and cancel delayed emits.",
    "tail": "Watch what is emitted, as it is emitted.",
    "status": "Show how events and actors of a running daemon fare.",
    "actors": "Pause, resume and delete actors.",
    "events": "Delete events.",
    "spool": "Show what waits on disk for NATS; list, retry and discard what JetStream refuses; rescue a damaged file.",
    "dead-letters": "List, show, replay and discard messages that actors gave up on.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            if ctx.resilient_parsing or cmd_name.startswith("-"):
                return None  # it is being completed, or no command
            raise click.UsageError(f"No such command {cmd_name!r}.{did_you_mean(cmd_name, _COMMANDS)}", ctx)
        command: click.Command = importlib.import_module(f"walnatsd.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="walnatsd")
def main() -> None:
    """Event sidecar on NATS JetStream: emit with one call, act with a webhook, lose nothing."""
