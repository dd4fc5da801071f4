"""The command line: one file a command or group; here they are put together, and errors become one line and an exit code."""

from __future__ import annotations

import sys

import typer

from postroom.entrypoints.cli import (
    audit,
    callback,
    campaign,
    key,
    message,
    provider,
    secrets,
    sender,
    suppress,
    template,
    tenant,
    user,
)
from postroom.entrypoints.cli.backup import backup_command, restore_command
from postroom.entrypoints.cli.demo import demo_command
from postroom.entrypoints.cli.deploy import deploy_command
from postroom.entrypoints.cli.doctor import doctor_command
from postroom.entrypoints.cli.erase import erase_command
from postroom.entrypoints.cli.output import take_any_text
from postroom.entrypoints.cli.send import send_command
from postroom.entrypoints.cli.serve import (
    callbacks_command,
    feedback_command,
    http_command,
    inbox_command,
    serve_command,
    timers_command,
    worker_command,
)
from postroom.entrypoints.cli.session import exit_code, say
from postroom.errors import PostroomError

app = typer.Typer(
    name="postroom",
    help="An email platform that its users own: a template and a CSV in, every recipient accounted for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.command("serve")(serve_command)
app.command("send")(send_command)
app.add_typer(campaign.app, name="campaign")
app.add_typer(message.app, name="message")
app.add_typer(message.inbox_app, name="inbox")
app.add_typer(template.app, name="template")
app.add_typer(suppress.app, name="suppress")
app.add_typer(tenant.app, name="tenant")
app.add_typer(user.app, name="user")
app.add_typer(user.client_app, name="client")
app.add_typer(key.app, name="key")
app.add_typer(sender.app, name="sender")
app.add_typer(provider.app, name="provider")
app.add_typer(callback.app, name="callback")
app.add_typer(secrets.app, name="secrets")
app.add_typer(audit.app, name="audit")
app.command("doctor")(doctor_command)
app.command("erase")(erase_command)
app.command("deploy")(deploy_command)
app.command("backup")(backup_command)
app.command("restore")(restore_command)
app.command("worker", hidden=True)(worker_command)
app.command("timers", hidden=True)(timers_command)
app.command("callbacks", hidden=True)(callbacks_command)
app.command("feedback", hidden=True)(feedback_command)
app.command("inbox-server", hidden=True)(inbox_command)
app.command("http", hidden=True)(http_command)


def main() -> None:
    """Run the command line."""
    take_any_text()
    try:
        app()
    except PostroomError as error:
        say(f"postroom: {error}")
        sys.exit(exit_code(error))
