"""The command line: one file a command or group; here they are put together, and errors become one line and an exit code."""

from __future__ import annotations

import sys

import typer

from postroom.entrypoints.cli.send import send_command
from postroom.entrypoints.cli.session import exit_code, say
from postroom.entrypoints.cli.worker import worker_command
from postroom.errors import PostroomError

app = typer.Typer(
    name="postroom",
    help="An email platform that its users own: a template and a CSV in, every recipient accounted for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("send")(send_command)
app.command("worker", hidden=True)(worker_command)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except PostroomError as error:
        say(f"postroom: {error}")
        sys.exit(exit_code(error))
