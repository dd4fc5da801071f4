"""`postroom sender dkim`: the keys that a domain's mail is signed with, for relays that do not sign.

`postroom sender`: addresses and domains that a tenant may send as.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import FAILED, of_tenant, operator, recorded, say, session
from postroom.errors import NotFound
from postroom.model.dkim import DkimKey, DomainKeys, KeyStatus, record_name
from postroom.model.sender import SenderIdentity
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Container

dkim_app = typer.Typer(help="Keys that a domain's mail is signed with, for relays that do not sign.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain of the From address, or one above it.")]


@dkim_app.command("add")
def add_dkim_key(
    domain: Domain,
    ed25519: Annotated[bool, typer.Option("--ed25519", help="Make an Ed25519 key beside the RSA key.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Make the first key of a domain, and print the TXT record to publish. It signs nothing until it is verified."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "sender dkim add", tenant=tenant) as change:
            made = postroom.dkim.add(tenant, domain, ed25519=ed25519)
            found = postroom.dkim.keys(tenant, domain)
            change.target = _target(found.domain, made[0].selector)
    _publish(found, made, tenant)


@dkim_app.command("show")
def show_dkim_keys(domain: Domain, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """Show a domain's keys, and the records by which receivers know them."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        found = postroom.dkim.keys(tenant, domain)
    if as_json:
        print_json([_key_record(key, found.domain) for key in found.keys])
        return
    rows = [(key.selector, key.algorithm.value, *_key_status(key)) for key in found.keys]
    print_rows(
        ("selector", "algorithm", "status", "since"), rows, none=f"{found.domain} has no DKIM key: `postroom sender dkim add`"
    )
    _print_records(found.domain, found.keys)


@dkim_app.command("rotate")
def rotate_dkim_keys(
    domain: Domain,
    ed25519: Annotated[
        bool | None, typer.Option(help="With an Ed25519 key beside the RSA key, or without; else as the domain has it.")
    ] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Make new keys in place of those that sign. Those go on until the new ones are verified."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "sender dkim rotate", tenant=tenant) as change:
            made = postroom.dkim.rotate(tenant, domain, ed25519=ed25519)
            found = postroom.dkim.keys(tenant, domain)
            change.target = _target(found.domain, made[0].selector)
    _publish(found, made, tenant)


@dkim_app.command("verify")
def verify_dkim_keys(
    domain: Domain,
    without_check: Annotated[
        bool, typer.Option("--without-check", help="Let the keys sign without asking the DNS: mail fails where it lacks them.")
    ] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Ask the DNS for the records of a domain's keys: those that wait sign from then on. Exit code 1: one is not there."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        found = postroom.dkim.keys(tenant, domain)
        asked = [key.selector for key in found.keys if key.status is not KeyStatus.RETIRED]
        if not asked:
            raise NotFound(f"{found.domain} has no DKIM key yet: `postroom sender dkim add {found.domain}` makes one")
        keys = [_verified(postroom, found.domain, each, tenant=tenant, unasked=without_check) for each in asked]
    for key in keys:
        say(
            f"{key.selector} signs the mail of {found.domain}"
            if key.status is KeyStatus.ACTIVE
            else f"{key.selector} signs nothing yet"
        )
        if key.finding:
            say(key.finding)
    if any(key.finding for key in keys):
        raise typer.Exit(FAILED)


@dkim_app.command("remove")
def remove_dkim_key(
    domain: Domain,
    selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="The key's, as `show` has it.")],
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Remove a key for good: within a minute nothing is signed with it. Leave its record in the DNS for some days."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        domain = postroom.dkim.keys(tenant, domain).domain
        with recorded(postroom, "sender dkim remove", tenant=tenant, target=_target(domain, selector)):
            key = postroom.dkim.remove(tenant, domain, selector)
        left = postroom.dkim.keys(tenant, domain)
    say(f"{key.selector} is removed")
    if key.status is KeyStatus.ACTIVE and all(each.status is not KeyStatus.ACTIVE for each in left.keys):
        say(f"the mail of {left.domain} is no longer signed")


def _verified(postroom: Container, domain: str, selector: str, *, tenant: str, unasked: bool) -> DkimKey:
    with recorded(postroom, "sender dkim verify", tenant=tenant, target=_target(domain, selector)):
        settle = postroom.dkim.trust if unasked else postroom.dkim.verify
        return settle(tenant, domain, selector)


def _publish(found: DomainKeys, made: list[DkimKey], tenant: str) -> None:
    records = "these TXT records" if len(made) > 1 else "this TXT record"
    say(f"put {records} into the DNS, then: postroom sender dkim verify {found.domain}{of_tenant(tenant)}")
    _print_records(found.domain, made)


def _print_records(domain: str, keys: Iterable[DkimKey]) -> None:
    """As zone files have them, each in one line: no table breaks what is to be copied."""
    for key in keys:
        sys.stdout.write(f"{record_name(key.selector, domain)}. IN TXT {key.record_strings}\n")


def _key_status(key: DkimKey) -> tuple[str, str]:
    """Its state, and since when."""
    since = "" if key.active_at is None else shown_time(key.active_at)
    if key.status is KeyStatus.WAITING:
        return f"waiting: {key.finding or 'not checked yet'}", since
    if key.status is KeyStatus.RETIRED:
        return "retired", since
    word = " (not checked)" if key.unchecked else ""
    return f"signs{word}" + (f", but {key.finding}" if key.finding else ""), since


def _key_record(key: DkimKey, domain: str) -> dict[str, object]:
    return {**asdict(key), "record_name": record_name(key.selector, domain), "record": key.record}


def _target(domain: str, selector: str) -> str:
    return f"dkim/{domain}/{selector}"


app = typer.Typer(help="Addresses and domains that a tenant may send as.", no_args_is_help=True)
app.add_typer(dkim_app, name="dkim")

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
