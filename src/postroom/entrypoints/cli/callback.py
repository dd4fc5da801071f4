"""`postroom callback`: HTTP callbacks with a tenant's events, and the log of their deliveries."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from postroom.clock import Instant
from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import recorded, say, tenant_option, tenant_session
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

app = typer.Typer(help="HTTP callbacks (webhooks) with events of a tenant's mail.", no_args_is_help=True)
_PAGE = 1_000

Id = Annotated[str, typer.Argument(metavar="ID", help="Callback id.")]
EndpointId = Annotated[
    str, typer.Argument(metavar="ID", help="Callback id, or campaign-<campaign id> for a campaign's own callback URL.")
]


@app.command("test")
def try_endpoint(id: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:  # noqa: A002
    """Send a signed `postroom.test` event to a callback, the same way as other events. Prints the delivery id."""
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        with recorded(postroom, "callback test", tenant=tenant, target=f"callback/{id}"):
            delivery = service.test(tenant, id, service.new_delivery_id())
        served = postroom.is_served()
    if as_json:
        print_json({"delivery_id": delivery.id})
    else:
        sys.stdout.write(delivery.id + "\n")
    say(f"see the result with: postroom callback deliveries {id} {delivery.id}{tenant_option(tenant)}")
    if not served:
        say("no server runs on this data: it is sent once `postroom serve` runs")


@app.command("deliveries")
def list_deliveries(
    id: EndpointId,  # noqa: A002
    delivery: Annotated[
        str | None, typer.Argument(metavar="[DELIVERY]", help="Show only this delivery, with request and response.")
    ] = None,
    status: Annotated[DeliveryStatus | None, typer.Option(help="Only deliveries with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of deliveries.")] = 100,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List a callback's deliveries, newest first; or show one delivery with its request and response."""
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        if delivery is not None:
            _print_one(service.delivery(tenant, id, delivery), as_json=as_json)
            return
        found = list(_newest(service, tenant, id, status=status, limit=limit))
    if as_json:
        print_json([delivery_record(each) for each in found])
        return
    print_rows(
        ("id", "status", "events", "attempts", "last attempt", "response"),
        [_row(each) for each in found],
        none="no deliveries yet",
    )


@app.command()
def redeliver(
    id: EndpointId,  # noqa: A002
    delivery: Annotated[str | None, typer.Argument(metavar="[DELIVERY]", help="Default: all dead deliveries.")] = None,
    since: Annotated[str | None, typer.Option(help="Only dead deliveries created at or after this time, RFC 3339.")] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Send dead deliveries again with the same id: now, with retries for a day."""
    if delivery is not None and since is not None:
        raise Invalid("--since cannot be used with a delivery id")
    start = Instant(0) if since is None else parse_instant(since)
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        target = f"callback/{id}" if delivery is None else f"callback/{id}/deliveries/{delivery}"
        with recorded(postroom, "callback redeliver", tenant=tenant, target=target):
            count = (
                _redeliver_dead(service, tenant, id, start) if delivery is None else _redeliver_one(service, tenant, id, delivery)
            )
    if as_json:
        print_json({"count": count})
    say(f"{count:,} deliveries will be sent again")


def _newest(
    service: CallbackService,
    tenant: str,
    id: str,  # noqa: A002
    *,
    status: DeliveryStatus | None,
    limit: int,
) -> Iterator[CallbackDelivery]:
    """Iterate over the newest `limit` deliveries, of one status if given."""
    cursor, left = None, limit
    while left:
        page = service.deliveries(tenant, id, status=status, cursor=cursor, limit=min(left, _PAGE))
        yield from page.items
        cursor, left = page.cursor, left - len(page.items)
        if cursor is None:
            return


def _redeliver_one(service: CallbackService, tenant: str, id: str, delivery: str) -> int:  # noqa: A002
    service.redeliver(tenant, id, delivery)
    return 1


def _redeliver_dead(service: CallbackService, tenant: str, id: str, since: Instant) -> int:  # noqa: A002
    """Return how many failed deliveries will be sent again."""
    part = service.redeliver_dead(tenant, id, since=since)
    count = part.ordered
    while part.cursor is not None:
        part = service.redeliver_dead(tenant, id, since=since, cursor=part.cursor)
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
    last_at = "" if delivery.last_at is None else shown_time(delivery.last_at)
    answer = f"{delivery.last_status or ''} {delivery.last_text}".strip()
    return delivery.id, delivery.status.value, str(delivery.events), str(delivery.attempts), last_at, answer


Events = Annotated[
    list[str] | None,
    typer.Option("--event", help="Event type to send, such as message.bounced. Repeatable. Default: all but message.queued."),
]
Only = Annotated[list[str] | None, typer.Option("--event", help="Event type to send from now on. Repeatable.")]
Description = Annotated[str | None, typer.Option(help="Description, one line.")]


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="URL that receives the requests: https://…")],
    event: Events = None,
    description: Description = None,
    batch: Annotated[bool, typer.Option("--batch", help="Send up to 100 events in one request.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Add a callback for events from now on. Prints the secret that requests are signed with, which is not shown again."""
    settings = EndpointSettings(
        url=url, kinds=_event_kinds(event) or DEFAULT_EVENTS, description=_checked_description(description) or "", batch=batch
    )
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        secret, id = service.new_secret(), service.new_id()  # noqa: A001
        with recorded(postroom, "callback add", tenant=tenant, target=f"callback/{id}"):
            endpoint = service.create(tenant, settings, id=id, secret=secret)
    _print_secret(secret, endpoint, as_json=as_json)
    say(f"callback {id}: keep its secret. Test it with: postroom callback test {id}{tenant_option(tenant)}")


@app.command("list")
def list_callbacks(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's callbacks, oldest first."""
    with tenant_session(tenant, data) as postroom:
        endpoints = postroom.callback_service.list(tenant)
    if as_json:
        print_json([callback_record(endpoint) for endpoint in endpoints])
        return
    rows = [(one.id, one.url, _endpoint_status(one), " ".join(event_types(one.kinds)), one.description) for one in endpoints]
    print_rows(
        ("id", "url", "status", "events", "description"), rows, none="no callbacks yet: create one with `postroom callback add`"
    )


@app.command()
def show(id: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:  # noqa: A002
    """Show a callback, without its secret."""
    with tenant_session(tenant, data) as postroom:
        shown = callback_record(postroom.callback_service.get(tenant, id))
    if as_json:
        print_json(shown)
        return
    print_rows(("", ""), [(name, _cell(value)) for name, value in shown.items()])


@app.command()
def change(
    id: Id,  # noqa: A002
    url: Annotated[str | None, typer.Option(help="New URL, also for deliveries that are waiting.")] = None,
    event: Only = None,
    description: Description = None,
    batch: Annotated[bool | None, typer.Option(help="Send up to 100 events in one request.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Enable or disable the callback.")] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Change a callback; options not given stay unchanged. When enabled again, events of the last day that wait are sent."""
    edit = EndpointChanges(
        url=url, kinds=_event_kinds(event), description=_checked_description(description), batch=batch, enabled=enabled
    )
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        with recorded(postroom, "callback change", tenant=tenant, target=f"callback/{id}"):
            changed = service.change(tenant, id, edit)
    if as_json:
        print_json(callback_record(changed.now))
    say("changed" if changed.now != changed.was else "nothing to change")


@app.command()
def remove(id: Id, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:  # noqa: A002
    """Remove a callback with its secret, its waiting events and its delivery log. It cannot be undone; `change --disable` keeps
    everything."""
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        with recorded(postroom, "callback remove", tenant=tenant, target=f"callback/{id}"):
            service.remove(tenant, id)
    say("removed")


@app.command("rotate-secret")
def rotate_secret(id: Id, tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:  # noqa: A002
    """Create a new signing secret and print it. For a day, requests are signed with the old one too."""
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        secret = service.new_secret()
        with recorded(postroom, "callback rotate-secret", tenant=tenant, target=f"callback/{id}"):
            endpoint = service.rotate(tenant, id, secret)
    _print_secret(secret, endpoint, as_json=as_json)
    say("requests are signed with this secret, and for a day with the old one too")


@app.command("campaign-secret")
def campaign_secret(
    rotate: Annotated[bool, typer.Option("--rotate", help="Create a new secret; for a day the old one signs too.")] = False,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show the secret that signs requests to callback URLs of campaigns: one secret a tenant."""
    with tenant_session(tenant, data) as postroom:
        service = postroom.callback_service
        if rotate:
            with recorded(postroom, "callback campaign-secret --rotate", tenant=tenant, target="callback/campaign-secret"):
                service.rotate_campaign_secret(tenant, service.new_secret())
        secret = service.campaign_secret(tenant)
    _print_secret(secret, None, as_json=as_json)


def _event_kinds(events: Sequence[str] | None) -> frozenset[EventKind] | None:
    return frozenset(map(parse_event_type, events)) if events else None


def _checked_description(text: str | None) -> str | None:
    if text is not None and not (len(text) <= MAX_DESCRIPTION and text.isprintable()):
        raise Invalid(f"--description must be one line of up to {MAX_DESCRIPTION} characters")
    return text


def _endpoint_status(endpoint: CallbackEndpoint) -> str:
    if not endpoint.enabled:
        return f"disabled: {endpoint.disabled_reason}".rstrip(": ")
    return "enabled" if endpoint.failing_since is None else f"failing since {shown_time(endpoint.failing_since)}"


def _cell(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def _print_secret(secret: bytes, endpoint: CallbackEndpoint | None, *, as_json: bool) -> None:
    if as_json:
        print_json({**({} if endpoint is None else callback_record(endpoint)), "secret": secret_text(secret)})
    else:
        sys.stdout.write(secret_text(secret) + "\n")
