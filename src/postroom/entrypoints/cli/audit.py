"""`postroom audit`: list the audit trail, and verify that it was not changed."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, print_rows
from postroom.entrypoints.cli.session import FAILED, say, session, tenant_option
from postroom.errors import Invalid
from postroom.ledger.audit import INSTALLATION
from postroom.model.audit import TIME_PREFIX
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Container

app = typer.Typer(help="Audit trail: who changed what, when and from where.", no_args_is_help=True)
Tenant = Annotated[
    str, typer.Option(help="Tenant; '' for the installation's own trail (tenants, shared providers, master keys).")
]


@app.command("list")
def list_entries(
    tenant: Tenant = DEFAULT_TENANT,
    when: Annotated[str, typer.Option(help="Only this day, hour or minute in UTC, e.g. 2026-12-01T09.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number of entries.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Cursor that the previous page ended with.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List audit entries, newest first."""
    if when and not re.match(TIME_PREFIX, when):
        raise Invalid(
            f"--when {when}: must be a day, hour or minute in UTC, such as 2026-12-01, 2026-12-01T09 or 2026-12-01T09:30"
        )
    with session(data=data) as postroom:
        _require_tenant(postroom, tenant)
        page = postroom.audit.list(tenant, prefix=when, cursor=cursor, limit=limit)
    if as_json:
        print_json({"entries": [{"at": entry.at, **asdict(entry)} for entry in page.items], "cursor": page.cursor})
        return
    print_rows(
        ("time", "actor", "address", "action", "target", "status"),
        [
            (
                entry.at,
                entry.name or entry.actor or "unknown",
                entry.address or "this machine",
                f"{entry.action} {entry.reason}{f' × {entry.count}' if entry.count > 1 else ''}",
                entry.target,
                "" if entry.status is None else str(entry.status),
            )
            for entry in page.items
        ],
        none="no entries",
    )
    if page.cursor is not None:
        say(f"next page: postroom audit list --cursor {page.cursor}{tenant_option(tenant)}")


@app.command()
def verify(tenant: Tenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """Verify the seals of the audit trail. Exit code 1: an entry was changed, added or removed."""
    with session(data=data) as postroom:
        _require_tenant(postroom, tenant)
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


def _require_tenant(postroom: Container, tenant: str) -> None:
    """Raise `NotFound` if there is no such tenant: its empty trail would look verified."""
    if tenant != INSTALLATION:
        postroom.tenants.read(tenant)
