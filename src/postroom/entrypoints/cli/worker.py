"""The hidden commands behind every child process: `send` and `serve` start them, people do not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from postroom.entrypoints.cli.session import FAILED, session
from postroom.entrypoints.server import process
from postroom.errors import PostroomError
from postroom.model.campaign import CampaignRef
from postroom.model.tenant import DEFAULT_TENANT
from postroom.telemetry.logs import write_logs
from postroom.wiring import Container


def worker_command(
    campaign: Annotated[str, typer.Option(help="Work for this campaign only, until it ends.")] = "",
    tenant: Annotated[str, typer.Option(help="Whose campaign it is.")] = DEFAULT_TENANT,
    maintenance: Annotated[bool, typer.Option(help="Fire timers and run maintenance jobs as well.")] = True,
) -> None:
    """Import and send until told to stop."""
    from postroom.entrypoints.server import worker

    with _child() as postroom:
        code = worker.run(postroom, CampaignRef(tenant, campaign) if campaign else None, maintenance=maintenance)
    raise typer.Exit(code)


def timers_command() -> None:
    """Fire timers, handle scheduler messages and run maintenance jobs until told to stop."""
    from postroom.entrypoints.server import timers

    with _child() as postroom:
        timers.run(postroom)


def callbacks_command() -> None:
    """Tell tenants' systems what happened until told to stop."""
    from postroom.entrypoints.server import background

    with _child() as postroom:
        background.run_callbacks(postroom)


def feedback_command(
    handle: Annotated[int, typer.Option(help="The socket of mail that comes back: an open file's number; -1: none.")] = -1,
) -> None:
    """Take in what comes back, and make it part of the records, until told to stop."""
    from postroom.entrypoints.server import background

    with _child() as postroom:
        background.run_feedback(postroom, None if handle < 0 else socket.socket(fileno=handle))


def inbox_command(port: Annotated[int, typer.Option(help="Where to listen, on loopback.")] = 0) -> None:
    """Take mail until told to stop."""
    from postroom.entrypoints.server import timers

    with _child() as postroom:
        timers.run_inbox(postroom, port)


def http_command(handle: Annotated[int, typer.Option(help="The socket that listens: an open file's number.")]) -> None:
    """Answer HTTP until told to stop."""
    from postroom.entrypoints.server import http_server  # the web framework takes a while to load

    with _child() as postroom:
        http_server.run(postroom, socket.socket(fileno=handle))


@contextmanager
def _child() -> Iterator[Container]:
    """The installation, for a child process: errors are told to the parent."""
    try:
        with session() as postroom:
            write_logs(sys.stderr, postroom.settings.log_level, format=postroom.settings.log_format)
            yield postroom
    except PostroomError as error:
        process.report_fatal(error)
        raise typer.Exit(FAILED) from error
