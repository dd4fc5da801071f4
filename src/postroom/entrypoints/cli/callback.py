"""`postroom callback test`, `deliveries` and `redeliver`: what a tenant's own systems were told, and telling it again.

`postroom callback`: where a tenant's own systems are told what happens to its mail.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from postroom.clock import Instant
from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import of_tenant, recorded, say, session
from postroom.errors import Invalid
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.model.callback import (
    MAX_DESCRIPTION,
    CallbackDelivery,
    CallbackEndpoint,
    DeliveryStatus,
    parse_event_type,
    secret_text,
)
from postroom.model.event import EventKind
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.callbacks import (
    DEFAULT_EVENTS,
    CallbackService,
    EndpointChanges,
    callback_record,
    delivery_record,
    event_types,
    parse_instant,
    whole_delivery,
)
from postroom.wiring import Container

_PAGE = 1_000

Id = Annotated[str, typer.Argument(metavar="ID", help="The callback's id.")]
LineId = Annotated[str, typer.Argument(metavar="ID", help="The callback's id, or campaign- and a campaign's id, for its own.")]


def try_command(id: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:  # noqa: A002
    """Send it a signed `postroom.test`, by the way that events take. Prints the delivery's id."""
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        with recorded(postroom, "callback test", tenant=tenant, target=f"callback/{id}"):
            delivery = desk.test(tenant, id, desk.new_delivery_id())
        served = postroom.is_served()
    if as_json:
        print_json({"delivery_id": delivery.id})
    else:
        sys.stdout.write(delivery.id + "\n")
    say(f"what comes of it: postroom callback deliveries {id} {delivery.id}{of_tenant(tenant)}")
    if not served:
        say("no server runs on this data: it is sent as soon as `postroom serve` does")


def deliveries_command(
    id: LineId,  # noqa: A002
    delivery: Annotated[str | None, typer.Argument(metavar="[DELIVERY]", help="Only this one, with all that it says.")] = None,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only those that stand so.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List what it was told, or is still to be told, newest first; or show one request and what was answered."""
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        if delivery is not None:
            _print_one(desk.delivery(tenant, id, delivery), as_json=as_json)
            return
        found = list(_some(desk, tenant, id, status=status, limit=limit))
    if as_json:
        print_json([delivery_record(each) for each in found])
        return
    print_rows(("id", "status", "events", "tries", "last try", "answer"), [_row(each) for each in found], none="nothing yet")


def redeliver_command(
    id: LineId,  # noqa: A002
    delivery: Annotated[str | None, typer.Argument(metavar="[DELIVERY]", help="Without it: all that were given up.")] = None,
    since: Annotated[str | None, typer.Option(help="Of those that were given up only what was made then or later.")] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Tell it again, under the same id: now, and for a day until it is answered well."""
    if delivery is not None and since is not None:
        raise Invalid("--since is for all that were given up: leave it out to name one")
    start = Instant(0) if since is None else parse_instant(since)
    with session(data=data) as postroom:
        desk = desk_of(postroom, tenant)
        target = f"callback/{id}" if delivery is None else f"callback/{id}/deliveries/{delivery}"
        with recorded(postroom, "callback redeliver", tenant=tenant, target=target):
            count = _all_again(desk, tenant, id, start) if delivery is None else _again(desk, tenant, id, delivery)
    if as_json:
        print_json({"count": count})
    say(f"{count:,} to be told again")


def desk_of(postroom: Container, tenant: str) -> CallbackService:
    """For a tenant that there is."""
    postroom.tenants.read(tenant)
    return postroom.callback_service


def _some(
    desk: CallbackService,
    tenant: str,
    id: str,  # noqa: A002
    *,
    status: DeliveryStatus | None,
    limit: int,
) -> Iterator[CallbackDelivery]:
    """The newest `limit` that stand so."""
    cursor, left = None, limit
    while left:
        page = desk.deliveries(tenant, id, status=status, cursor=cursor, limit=min(left, _PAGE))
        yield from page.items
        cursor, left = page.cursor, left - len(page.items)
        if cursor is None:
            return


def _again(desk: CallbackService, tenant: str, id: str, delivery: str) -> int:  # noqa: A002
    desk.redeliver(tenant, id, delivery)
    return 1


def _all_again(desk: CallbackService, tenant: str, id: str, since: Instant) -> int:  # noqa: A002
    """How many, of all that are kept."""
    part = desk.redeliver_dead(tenant, id, since=since)
    count = part.ordered
    while part.cursor is not None:
        part = desk.redeliver_dead(tenant, id, since=since, cursor=part.cursor)
        count += part.ordered
    return count


def _print_one(delivery: CallbackDelivery, *, as_json: bool) -> None:
    shown = whole_delivery(delivery)
    if as_json:
        print_json(shown)
        return
    last = shown.pop("last") or {}
    rows = {**shown, **{f"last {name}": value for name, value in last.items()}}
    print_rows(("", ""), [(name, "" if value is None else str(value)) for name, value in rows.items()])


def _row(delivery: CallbackDelivery) -> tuple[str, ...]:
    tried = "" if delivery.last_at is None else shown_time(delivery.last_at)
    answer = f"{delivery.last_status or ''} {delivery.last_text}".strip()
    return delivery.id, delivery.status.value, str(delivery.events), str(delivery.attempts), tried, answer


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
