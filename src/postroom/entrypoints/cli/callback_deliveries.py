"""`postroom callback test`, `deliveries` and `redeliver`: what a tenant's own systems were told, and telling it again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from postroom.clock import Instant
from postroom.entrypoints.cli.operating import of_tenant, recorded
from postroom.entrypoints.cli.options import Data, Json, OfTenant
from postroom.entrypoints.cli.output import print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import say, session
from postroom.errors import Invalid
from postroom.model.callback import CallbackDelivery, DeliveryStatus
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.callbacks import CallbackService, delivery_record, parse_instant, whole_delivery
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
