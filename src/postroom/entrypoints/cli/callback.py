"""`postroom callback`: where a tenant's own systems are told what happens to its mail."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from postroom.entrypoints.cli.callback_deliveries import Id, deliveries_command, desk_of, redeliver_command, try_command
from postroom.entrypoints.cli.operating import of_tenant, recorded
from postroom.entrypoints.cli.options import Data, Json, OfTenant
from postroom.entrypoints.cli.output import print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import say, session
from postroom.errors import Invalid
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.model.callback import MAX_DESCRIPTION, CallbackEndpoint, parse_event_type, secret_text
from postroom.model.event import EventKind
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.callbacks import DEFAULT_EVENTS, EndpointChanges, callback_record, event_types

app = typer.Typer(help="Requests that tell a tenant's own systems what happens to its mail.", no_args_is_help=True)
app.command("test")(try_command)
app.command("deliveries")(deliveries_command)
app.command("redeliver")(redeliver_command)

Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Only of this, such as message.bounced; again for more. Without it: all but message.queued."),
]
Only = Annotated[list[str] | None, typer.Option("--event", help="Only of this from now on; again for more.")]
Description = Annotated[str | None, typer.Option(help="For people.")]


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Where requests go: https://…")],
    event: Events = None,
    description: Description = None,
    batch: Annotated[bool, typer.Option("--batch", help="Up to 100 events in one request.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Have a URL told what happens from now on. The secret that requests are signed with, the only line on standard output, is
    not shown again."""
    wishes = EndpointSettings(url=url, kinds=_kinds(event) or DEFAULT_EVENTS, description=_line(description) or "", batch=batch)
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        secret, id = desk.new_secret(), desk.new_id()  # noqa: A001
        with recorded(postroom, "callback add", tenant=tenant, target=f"callback/{id}"):
            endpoint = desk.create(tenant, wishes, id=id, secret=secret)
    _print_secret(secret, endpoint, as_json=as_json)
    say(f"callback {id}: keep its secret; whether it works: postroom callback test {id}{of_tenant(tenant)}")


@app.command("list")
def list_callbacks(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's callbacks, oldest first."""
    with session(data=data) as postroom:
        endpoints = desk_of(postroom, tenant).list(tenant)
    if as_json:
        print_json([callback_record(endpoint) for endpoint in endpoints])
        return
    rows = [(one.id, one.url, _standing(one), " ".join(event_types(one.kinds)), one.description) for one in endpoints]
    print_rows(("id", "url", "is", "told of", "description"), rows, none="no callbacks yet: `postroom callback add` makes one")


@app.command()
def show(id: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:  # noqa: A002
    """Show a callback; never its secret."""
    with session(data=data) as postroom:
        shown = callback_record(desk_of(postroom, tenant).get(tenant, id))
    if as_json:
        print_json(shown)
        return
    print_rows(("", ""), [(name, _cell(value)) for name, value in shown.items()])


@app.command()
def change(
    id: Id,  # noqa: A002
    url: Annotated[str | None, typer.Option(help="Where requests go from now on, also those that wait.")] = None,
    event: Only = None,
    description: Description = None,
    batch: Annotated[bool | None, typer.Option(help="Up to 100 events in one request.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch it on or off.")] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Change a callback; what is not named stays. What waits since less than a day is told once it is switched on again."""
    edit = EndpointChanges(url=url, kinds=_kinds(event), description=_line(description), batch=batch, enabled=enabled)
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        with recorded(postroom, "callback change", tenant=tenant, target=f"callback/{id}"):
            changed = desk.change(tenant, id, edit)
    if as_json:
        print_json(callback_record(changed.now))
    say("changed" if changed.now != changed.was else "nothing was to be changed")


@app.command()
def remove(id: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:  # noqa: A002
    """Remove a callback with its secret, what it was still to be told, and the record of what it was told. It cannot be undone;
    `change --disable` keeps all of it."""
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        with recorded(postroom, "callback remove", tenant=tenant, target=f"callback/{id}"):
            desk.remove(tenant, id)
    say("removed")


@app.command("rotate-secret")
def rotate_secret(id: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:  # noqa: A002
    """Sign with a new secret, the only line on standard output; for a day with the one before too."""
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        secret = desk.new_secret()
        with recorded(postroom, "callback rotate-secret", tenant=tenant, target=f"callback/{id}"):
            endpoint = desk.rotate(tenant, id, secret)
    _print_secret(secret, endpoint, as_json=as_json)
    say("requests are signed with this one, and for a day with the one before too")


@app.command("campaign-secret")
def campaign_secret(
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new one; for a day the one before signs too.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show what requests to campaigns' own callback URLs are signed with: one secret for all of the tenant's."""
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        if rotate:
            with recorded(postroom, "callback campaign-secret --rotate", tenant=tenant, target="callback/campaign-secret"):
                desk.rotate_campaign_secret(tenant, desk.new_secret())
        secret = desk.campaign_secret(tenant)
    _print_secret(secret, None, as_json=as_json)


def _kinds(events: Sequence[str] | None) -> frozenset[EventKind] | None:
    return frozenset(map(parse_event_type, events)) if events else None


def _line(text: str | None) -> str | None:
    if text is not None and not (len(text) <= MAX_DESCRIPTION and text.isprintable()):
        raise Invalid(f"a description is one line of up to {MAX_DESCRIPTION} characters")
    return text


def _standing(endpoint: CallbackEndpoint) -> str:
    if not endpoint.enabled:
        return f"off: {endpoint.disabled_reason}".rstrip(": ")
    return "on" if endpoint.failing_since is None else f"failing since {shown_time(endpoint.failing_since)}"


def _cell(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def _print_secret(secret: bytes, endpoint: CallbackEndpoint | None, *, as_json: bool) -> None:
    if as_json:
        print_json({**({} if endpoint is None else callback_record(endpoint)), "secret": secret_text(secret)})
    else:
        sys.stdout.write(secret_text(secret) + "\n")
