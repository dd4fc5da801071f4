"""`postroom sender`: addresses and domains that a tenant may send as."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from postroom.entrypoints.cli import sender_dkim
from postroom.entrypoints.cli.operating import of_tenant, operator, recorded
from postroom.entrypoints.cli.options import Data, Json, OfTenant
from postroom.entrypoints.cli.output import print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import FAILED, say, session
from postroom.model.sender import SenderIdentity
from postroom.model.tenant import DEFAULT_TENANT

app = typer.Typer(help="Addresses and domains that a tenant may send as.", no_args_is_help=True)
app.add_typer(sender_dkim.app, name="dkim")

Name = Annotated[str, typer.Argument(metavar="NAME", help="An address, or a domain with all addresses in it and below it.")]


@app.command()
def add(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Enter a sender, and say which TXT record verifies it."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "sender add", tenant=tenant) as change:
            identity = postroom.senders.add(tenant, name)
            change.target = f"sender/{identity.name}"
    if identity.verified_at is None:
        say(f"put this TXT record into the DNS, then: postroom sender verify {identity.name}{of_tenant(tenant)}")
        print_rows(("name", "text"), [(identity.record_name, identity.record_value)])
    else:
        say(f"{identity.name} is verified")


@app.command("list")
def list_senders(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's senders."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        senders, cursor = [], None
        while True:
            page = postroom.senders.list(tenant, cursor=cursor, limit=1_000)
            senders += page.items
            cursor = page.cursor
            if cursor is None:
                break
    if as_json:
        print_json([asdict(identity) for identity in senders])
        return
    rows = [_row(identity) for identity in senders]
    print_rows(("sender", "status", "since"), rows, none="no senders yet: `postroom sender add` enters one")


@app.command()
def verify(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Ask the DNS whether the TXT record is there. Exit code 1: it is not."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "sender verify", tenant=tenant) as change:
            identity = postroom.senders.verify(tenant, name)
            change.target = f"sender/{identity.name}"
    if identity.finding:
        say(identity.finding)
        raise typer.Exit(FAILED)
    say(f"{identity.name} is verified")


@app.command()
def trust(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Take a sender on trust, without asking the DNS: you are the operator, and answer for it."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "sender trust", tenant=tenant) as change:
            identity = postroom.senders.trust(tenant, name, operator=operator(tenant).name)
            change.target = f"sender/{identity.name}"
    say(f"{tenant} may send as {identity.name}")


@app.command()
def remove(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Remove a sender: nothing new is sent from it, campaigns under way go on."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "sender remove", tenant=tenant) as change:
            identity = postroom.senders.remove(tenant, name)
            change.target = f"sender/{identity.name}"
    say(f"{identity.name} is removed")


def _row(identity: SenderIdentity) -> tuple[str, str, str]:
    if identity.verified_at is None:
        return identity.name, f"waiting: {identity.finding or 'not checked yet'}", ""
    how = f"trusted by {identity.trusted_by}" if identity.trusted_by else "verified by the DNS"
    return identity.name, how, shown_time(identity.verified_at)
