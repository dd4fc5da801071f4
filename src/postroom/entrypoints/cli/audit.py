"""`postroom audit`: who changed what, and whether the trail is as it was written."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, print_rows
from postroom.entrypoints.cli.session import FAILED, of_tenant, say, session
from postroom.errors import Invalid
from postroom.ledger.audit import INSTALLATION
from postroom.model.audit import TIME_PREFIX
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Container

app = typer.Typer(help="Who changed what, when and from where.", no_args_is_help=True)
Tenant = Annotated[str, typer.Option(help="Whose trail; '': the installation's own, with work on tenants and shared providers.")]


@app.command("list")
def list_entries(
    tenant: Tenant = DEFAULT_TENANT,
    when: Annotated[str, typer.Option(help="A day, hour or minute, UTC: 2026-12-01T09.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where to go on: what the last list ended with.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List entries, newest first."""
    if when and not re.match(TIME_PREFIX, when):
        raise Invalid(f"--when {when}: a day, hour or minute in UTC, such as 2026-12-01, 2026-12-01T09 or 2026-12-01T09:30")
    with session(data=data) as postroom:
        _known(postroom, tenant)
        page = postroom.audit.list(tenant, prefix=when, cursor=cursor, limit=limit)
    if as_json:
        print_json({"entries": [{"at": entry.at, **asdict(entry)} for entry in page.items], "cursor": page.cursor})
        return
    print_rows(
        ("time", "who", "from", "what", "record", "ended"),
        [
            (
                entry.at,
                entry.name or entry.actor or "nobody known",
                entry.address or "this machine",
                f"{entry.action} {entry.reason}{f' × {entry.count}' if entry.count > 1 else ''}",
                entry.target,
                "" if entry.status is None else str(entry.status),
            )
            for entry in page.items
        ],
        none="nothing is recorded",
    )
    if page.cursor is not None:
        say(f"more with: postroom audit list --cursor {page.cursor}{of_tenant(tenant)}")


@app.command()
def verify(tenant: Tenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """Check the trail's seals: whether an entry was changed, added or taken away. Exit code 1: it was."""
    with session(data=data) as postroom:
        _known(postroom, tenant)
        found = postroom.audit.verify(tenant)
    if as_json:
        print_json(asdict(found))
    else:
        for problem in found.problems:
            say(problem)
        say(
            f"{found.entries:,} entries under {found.seals:,} seals, {found.unsealed:,} not sealed yet; "
            f"{len(found.problems)} problems; head {found.head or 'none'}"
        )
    if found.problems:
        raise typer.Exit(FAILED)


def _known(postroom: Container, tenant: str) -> None:
    """`NotFound` for a tenant that there is not: an empty trail would be taken for an honest one."""
    if tenant != INSTALLATION:
        postroom.tenants.read(tenant)
