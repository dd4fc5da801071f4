"""`postroom message …`: one message, of a campaign or a single one, and all that happened to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from postroom.entrypoints.cli.options import Data, Json, OfTenant
from postroom.entrypoints.cli.output import print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.session import session
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.message import Message
from postroom.model.stream import is_stream
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.tokens import parse_message_id
from postroom.services.messages import event_record, message_record
from postroom.wiring import Container

app = typer.Typer(help="Look at one message.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look at one message."""


@app.command()
def show(
    message: Annotated[str, typer.Argument(help="The message's id, as lists and callbacks name it.")],
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Where it stands, and what happened to it: each attempt, bounces, opens, clicks."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        found, events = _found(postroom, tenant, message)
    if as_json:
        print_json(_as_dict(message, found, events))
        return
    reply = f"{found.code or ''} {found.reply}".strip()
    sys.stdout.write(printable(f"{found.address}  {found.status.label}  {reply}".rstrip()) + "\n")
    print_rows(("at", "what", "attempt", "source", "detail"), [_row(event) for event in events])


def _found(postroom: Container, tenant: str, id: str) -> tuple[Message, Sequence[Event]]:  # noqa: A002 - the field's own word
    of, _ = parse_message_id(id)
    if is_stream(of):
        record = postroom.singles.get(tenant, id)
        return record.message, postroom.singles.timeline(tenant, record)
    campaign, found = postroom.reading.message(CampaignRef(tenant, of), id)
    return found, postroom.reading.timeline(campaign, found)


def _row(event: Event) -> tuple[str, ...]:
    what = [event.kind.value]
    if event.bounce is not None:
        what += [f"({event.bounce.type}, {event.bounce.category})"]
    if event.machine:
        what += ["(a machine)"]
    attempt = str(event.attempt) if event.attempt else ""
    return shown_time(event.at), " ".join(what), attempt, event.source, " ".join(filter(None, (event.url, event.detail)))


def _as_dict(id: str, message: Message, events: Sequence[Event]) -> dict[str, object]:  # noqa: A002 - the field's own word
    return {
        "id": id,
        **message_record(message),
        "events": [event_record(event) for event in events],
    }
