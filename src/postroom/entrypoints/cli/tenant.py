"""`postroom tenant`: who owns records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import recorded, say, session
from postroom.errors import Invalid
from postroom.ledger.audit import INSTALLATION
from postroom.ledger.tenants import Tenants
from postroom.model.tenant import MAX_TENANT_NAME, Tenant

app = typer.Typer(help="Tenants: who owns campaigns, templates and suppressions.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits and '-', up to 40.")]


@app.command()
def add(
    tenant: Id,
    name: Annotated[str, typer.Option(help="For people.")] = "",
    data: Data = None,
) -> None:
    """Make a tenant. Then let somebody in with `postroom user add --tenant`. Exit code 1: there is one of that id."""
    if len(name) > MAX_TENANT_NAME or not name.isprintable():
        raise Invalid(f"--name is one line of up to {MAX_TENANT_NAME} characters")
    with session(data=data) as postroom, recorded(postroom, "tenant add", tenant=INSTALLATION, target=f"tenant/{tenant}"):
        made = postroom.tenants.create(tenant, name)
    say(f"made the tenant {made.id}")


@app.command("list")
def list_tenants(as_json: Json = False, data: Data = None) -> None:
    """List all tenants."""
    with session(data=data) as postroom:
        tenants = list(_every(postroom.tenants))
    if as_json:
        print_json([_as_dict(tenant) for tenant in tenants])
        return
    rows = [(one.id, one.name, "disabled" if one.disabled else "", _made(one) or "") for one in tenants]
    print_rows(("id", "name", "status", "made"), rows)


@app.command()
def disable(tenant: Id, data: Data = None) -> None:
    """Refuse a tenant's people and programs at the door, within seconds. Campaigns under way go on; nothing is lost."""
    with session(data=data) as postroom, recorded(postroom, "tenant disable", tenant=INSTALLATION, target=f"tenant/{tenant}"):
        postroom.tenants.disable(tenant)
    say(f"{tenant} is disabled")


@app.command()
def enable(tenant: Id, data: Data = None) -> None:
    """Take a tenant's calls again."""
    with session(data=data) as postroom, recorded(postroom, "tenant enable", tenant=INSTALLATION, target=f"tenant/{tenant}"):
        postroom.tenants.enable(tenant)
    say(f"{tenant} is enabled")


def _every(tenants: Tenants) -> Iterator[Tenant]:
    cursor: str | None = None
    while True:
        page = tenants.list(cursor=cursor, limit=1_000)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return


def _as_dict(tenant: Tenant) -> dict[str, object]:
    return {"id": tenant.id, "name": tenant.name, "disabled": tenant.disabled, "created_at": _made(tenant)}


def _made(tenant: Tenant) -> str | None:
    return None if tenant.created_at is None else shown_time(tenant.created_at)
