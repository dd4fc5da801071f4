"""The hidden command behind every worker process: `send` starts it, people do not."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from postroom.entrypoints import worker
from postroom.entrypoints.cli.session import session
from postroom.model.campaign import Home
from postroom.model.tenant import DEFAULT_TENANT


def worker_command(campaign: Annotated[str, typer.Option(help="Work for this campaign only, until it ends.")] = "") -> None:
    """Import, schedule and send until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    with session() as postroom:
        only = Home(DEFAULT_TENANT, campaign) if campaign else None
        raise typer.Exit(worker.run(postroom, only))
