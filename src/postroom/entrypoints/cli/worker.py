"""The hidden command behind every worker process: `send` starts it, people do not."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from postroom.entrypoints import worker
from postroom.entrypoints.cli.session import FAILED, session
from postroom.errors import PostroomError
from postroom.model.campaign import Home
from postroom.model.tenant import DEFAULT_TENANT
from postroom.telemetry.logs import write_logs


def worker_command(campaign: Annotated[str, typer.Option(help="Work for this campaign only, until it ends.")] = "") -> None:
    """Import, schedule and send until told to stop."""
    write_logs(sys.stderr)
    try:
        with session() as postroom:
            code = worker.run(postroom, Home(DEFAULT_TENANT, campaign) if campaign else None)
    except PostroomError as error:
        worker.last_words(error)
        raise typer.Exit(FAILED) from error
    raise typer.Exit(code)
