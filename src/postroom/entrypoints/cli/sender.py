"""`postroom sender`: addresses and domains that a tenant may send from, and their DKIM keys."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, every_item, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import FAILED, operator, recorded, say, tenant_option, tenant_session
from postroom.errors import NotFound
from postroom.model.dkim import DkimKey, DomainKeys, KeyStatus, record_name
from postroom.model.sender import SenderIdentity
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Container

dkim_app = typer.Typer(help="DKIM keys, for relays that do not sign mail.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="Domain of the From address, or a parent domain.")]


@dkim_app.command("add")
def add_dkim_key(
    domain: Domain,
    ed25519: Annotated[bool, typer.Option("--ed25519", help="Also create an Ed25519 key.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Create the first DKIM key of a domain, and print the TXT record to publish. It signs once it is verified."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "sender dkim add", tenant=tenant) as change:
        made = postroom.dkim.add(tenant, domain, ed25519=ed25519)
        found = postroom.dkim.keys(tenant, domain)
        change.target = _target(found.domain, made[0].selector)
    _publish(found, made, tenant)


@dkim_app.command("show")
def show_dkim_keys(domain: Domain, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """Show a domain's DKIM keys and their TXT records."""
    with tenant_session(tenant, data) as postroom:
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
        bool | None, typer.Option(help="Also create an Ed25519 key, or not. Default: as the domain has it now.")
    ] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Create new DKIM keys for a domain. The current keys sign until the new ones are verified."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "sender dkim rotate", tenant=tenant) as change:
        made = postroom.dkim.rotate(tenant, domain, ed25519=ed25519)
        found = postroom.dkim.keys(tenant, domain)
        change.target = _target(found.domain, made[0].selector)
    _publish(found, made, tenant)


@dkim_app.command("verify")
def verify_dkim_keys(
    domain: Domain,
    without_check: Annotated[
        bool,
        typer.Option("--without-check", help="Activate the keys without a DNS check. DKIM fails if the records are missing."),
    ] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Check the DNS for the TXT records of a domain's keys, and activate waiting keys. Exit code 1: a record is missing."""
    with tenant_session(tenant, data) as postroom:
        found = postroom.dkim.keys(tenant, domain)
        asked = [key.selector for key in found.keys if key.status is not KeyStatus.RETIRED]
        if not asked:
            raise NotFound(f"{found.domain} has no DKIM key yet: create one with `postroom sender dkim add {found.domain}`")
        keys = [_verified(postroom, found.domain, each, tenant=tenant, without_check=without_check) for each in asked]
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
    selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="Selector of the key, from `show`.")],
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Remove a DKIM key for good: it stops signing within a minute. Keep its TXT record in the DNS for some days."""
    with tenant_session(tenant, data) as postroom:
        domain = postroom.dkim.keys(tenant, domain).domain
        with recorded(postroom, "sender dkim remove", tenant=tenant, target=_target(domain, selector)):
            key = postroom.dkim.remove(tenant, domain, selector)
        left = postroom.dkim.keys(tenant, domain)
    say(f"removed {key.selector}")
    if key.status is KeyStatus.ACTIVE and all(each.status is not KeyStatus.ACTIVE for each in left.keys):
        say(f"the mail of {left.domain} is no longer signed")


def _verified(postroom: Container, domain: str, selector: str, *, tenant: str, without_check: bool) -> DkimKey:
    with recorded(postroom, "sender dkim verify", tenant=tenant, target=_target(domain, selector)):
        settle = postroom.dkim.trust if without_check else postroom.dkim.verify
        return settle(tenant, domain, selector)


def _publish(found: DomainKeys, made: list[DkimKey], tenant: str) -> None:
    records = "these TXT records" if len(made) > 1 else "this TXT record"
    say(f"add {records} to the DNS, then run: postroom sender dkim verify {found.domain}{tenant_option(tenant)}")
    _print_records(found.domain, made)


def _print_records(domain: str, keys: Iterable[DkimKey]) -> None:
    """Print records in zone-file format, one a line, so that they can be copied."""
    for key in keys:
        sys.stdout.write(f"{record_name(key.selector, domain)}. IN TXT {key.record_strings}\n")


def _key_status(key: DkimKey) -> tuple[str, str]:
    """Return the status of a key, and since when."""
    since = "" if key.active_at is None else shown_time(key.active_at)
    if key.status is KeyStatus.WAITING:
        return f"waiting: {key.finding or 'not checked yet'}", since
    if key.status is KeyStatus.RETIRED:
        return "retired", since
    suffix = " (not checked)" if key.unchecked else ""
    return f"signs{suffix}" + (f", but {key.finding}" if key.finding else ""), since


def _key_record(key: DkimKey, domain: str) -> dict[str, object]:
    return {**asdict(key), "record_name": record_name(key.selector, domain), "record": key.record}


def _target(domain: str, selector: str) -> str:
    return f"dkim/{domain}/{selector}"


app = typer.Typer(help="Addresses and domains that a tenant may send from.", no_args_is_help=True)
app.add_typer(dkim_app, name="dkim")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Address, or domain including its subdomains.")]


@app.command()
def add(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Add a sender, and print the TXT record that verifies it."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "sender add", tenant=tenant) as change:
        identity = postroom.senders.add(tenant, name)
        change.target = f"sender/{identity.name}"
    if identity.verified_at is None:
        say(f"add this TXT record to the DNS, then run: postroom sender verify {identity.name}{tenant_option(tenant)}")
        print_rows(("name", "text"), [(identity.record_name, identity.record_value)])
    else:
        say(f"{identity.name} is verified")


@app.command("list")
def list_senders(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's senders."""
    with tenant_session(tenant, data) as postroom:
        senders = list(every_item(lambda cursor, limit: postroom.senders.list(tenant, cursor=cursor, limit=limit)))
    if as_json:
        print_json([asdict(identity) for identity in senders])
        return
    rows = [_row(identity) for identity in senders]
    print_rows(("sender", "status", "since"), rows, none="no senders yet: add one with `postroom sender add`")


@app.command()
def verify(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Check the DNS for a sender's TXT record. Exit code 1: it is missing."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "sender verify", tenant=tenant) as change:
        identity = postroom.senders.verify(tenant, name)
        change.target = f"sender/{identity.name}"
    if identity.finding:
        say(identity.finding)
        raise typer.Exit(FAILED)
    say(f"{identity.name} is verified")


@app.command()
def trust(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Trust a sender without a DNS check."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "sender trust", tenant=tenant) as change:
        identity = postroom.senders.trust(tenant, name, operator=operator(tenant).name)
        change.target = f"sender/{identity.name}"
    say(f"{tenant} may send as {identity.name}")


@app.command()
def remove(name: Name, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Remove a sender. New sends from it are refused; running campaigns continue."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "sender remove", tenant=tenant) as change:
        identity = postroom.senders.remove(tenant, name)
        change.target = f"sender/{identity.name}"
    say(f"removed {identity.name}")


def _row(identity: SenderIdentity) -> tuple[str, str, str]:
    if identity.verified_at is None:
        return identity.name, f"waiting: {identity.finding or 'not checked yet'}", ""
    how = f"trusted by {identity.trusted_by}" if identity.trusted_by else "verified by DNS"
    return identity.name, how, shown_time(identity.verified_at)
