"""`postroom tenant`: the owners of campaigns, templates, senders and suppressions."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, every_item, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import recorded, say, session
from postroom.errors import Invalid
from postroom.ledger.audit import INSTALLATION
from postroom.model.tenant import MAX_TENANT_NAME, Tenant

app = typer.Typer(help="Tenants, the owners of campaigns, templates and suppressions.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="ID", help="Tenant id: up to 40 lower-case letters, digits and '-'.")]


@app.command()
def add(
    tenant: Id,
    name: Annotated[str, typer.Option(help="Display name.")] = "",
    data: Data = None,
) -> None:
    """Create a tenant; add users with `postroom user add --tenant`. Exit code 1: a tenant with this id exists."""
    if len(name) > MAX_TENANT_NAME or not name.isprintable():
        raise Invalid(f"--name must be one line of up to {MAX_TENANT_NAME} characters")
    with session(data=data) as postroom, recorded(postroom, "tenant add", tenant=INSTALLATION, target=f"tenant/{tenant}"):
        created = postroom.tenants.create(tenant, name)
    say(f"created tenant {created.id}")


@app.command("list")
def list_tenants(as_json: Json = False, data: Data = None) -> None:
    """List all tenants."""
    with session(data=data) as postroom:
        tenants = list(every_item(lambda cursor, limit: postroom.tenants.list(cursor=cursor, limit=limit)))
    if as_json:
        print_json([_as_dict(tenant) for tenant in tenants])
        return
    rows = [(one.id, one.name, "disabled" if one.disabled else "enabled", _created(one) or "") for one in tenants]
    print_rows(("id", "name", "status", "created"), rows)


@app.command()
def disable(tenant: Id, data: Data = None) -> None:
    """Refuse API calls and sign-ins of a tenant, within seconds. Running campaigns continue, and all data is kept."""
    with session(data=data) as postroom, recorded(postroom, "tenant disable", tenant=INSTALLATION, target=f"tenant/{tenant}"):
        postroom.tenants.disable(tenant)
    say(f"{tenant} is disabled")


@app.command()
def enable(tenant: Id, data: Data = None) -> None:
    """Allow API calls and sign-ins of a disabled tenant again."""
    with session(data=data) as postroom, recorded(postroom, "tenant enable", tenant=INSTALLATION, target=f"tenant/{tenant}"):
        postroom.tenants.enable(tenant)
    say(f"{tenant} is enabled")


def _as_dict(tenant: Tenant) -> dict[str, object]:
    return {"id": tenant.id, "name": tenant.name, "disabled": tenant.disabled, "created_at": _created(tenant)}


def _created(tenant: Tenant) -> str | None:
    return None if tenant.created_at is None else shown_time(tenant.created_at)
