"""`postroom client`: programs that call the API with access tokens of their own."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.entrypoints.cli.operating import recorded
from postroom.entrypoints.cli.options import Data, Json, OfTenant
from postroom.entrypoints.cli.output import print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import say, session
from postroom.errors import NotFound, Unsupported
from postroom.identity.directory import AccessAdmin
from postroom.ledger.audit import INSTALLATION
from postroom.model.access import Role
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Container

app = typer.Typer(
    help="Programs that call the API with access tokens of their own (OAuth client credentials).", no_args_is_help=True
)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    role: Annotated[Role, typer.Option("--role", help="What it may do; each includes those before it.")] = Role.VIEWER,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Register a program. Prints its id and its secret, which is not shown again."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "client add", tenant=tenant) as change:
            client, secret = _admission(postroom).add_client(name, tenant=tenant, role=role)
            change.target = f"client/{client.id}"
    if as_json:
        print_json({"client_id": client.id, "client_secret": secret, "name": client.name, "role": role.value, "tenant": tenant})
    else:
        print_rows(("client id", "client secret"), [(client.id, secret)])
        say("keep the secret: it is not shown again")


@app.command("list")
def list_clients(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's programs."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        found = _admission(postroom).clients(tenant)
    rows = [
        (client.id, client.name, member.role.value if member else "none", shown_time(client.created_at))
        for client, member in found
    ]
    columns = ("client_id", "name", "role", "created_at")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_rows(columns, rows, none="no programs yet: `postroom client add` registers one")


@app.command()
def revoke(id: Annotated[str, typer.Argument(help="The client id.")], data: Data = None) -> None:  # noqa: A002
    """End a program: its rights within seconds, and it gets no tokens any more. Exit code 1: there is none of that id."""
    with session(data=data) as postroom:
        admission = _admission(postroom)
        member = admission.membership(id)
        whose = INSTALLATION if member is None else member.tenant
        with recorded(postroom, "client revoke", tenant=whose, target=f"client/{id}"):
            if not admission.revoke_client(id):
                raise NotFound(f"there is no client {id}; `postroom client list` shows a tenant's")
    say(f"revoked {id}")


def _admission(postroom: Container) -> AccessAdmin:
    if postroom.issuer is None:
        raise Unsupported(f"programs get their tokens at {postroom.settings.issuer}: register them there, and here as a user")
    return AccessAdmin(postroom.issuer, postroom.memberships)
