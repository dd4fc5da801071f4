"""`postroom message`: one message and its events. `postroom inbox`: mail that the built-in inbox received."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.session import say, session, tenant_session
from postroom.errors import Invalid, StorageFull
from postroom.model.campaign import CampaignRef
from postroom.model.event import Event
from postroom.model.message import Message
from postroom.model.stream import is_stream
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.tokens import parse_message_id
from postroom.services.inbox import InboxEntry, OpenedMail
from postroom.services.messages import event_record, message_record
from postroom.wiring import Container

app = typer.Typer(help="Inspect one message.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Inspect one message."""


@app.command()
def show(
    message: Annotated[str, typer.Argument(help="Message id, from lists and callbacks.")],
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show a message's status and events: attempts, bounces, opens, clicks."""
    with tenant_session(tenant, data) as postroom:
        found, events = _found(postroom, tenant, message)
    if as_json:
        print_json(_as_dict(message, found, events))
        return
    reply = f"{found.code or ''} {found.reply}".strip()
    sys.stdout.write(printable(f"{found.address}  {found.status.label}  {reply}".rstrip()) + "\n")
    print_rows(("time", "event", "attempt", "source", "detail"), [_row(event) for event in events])


def _found(postroom: Container, tenant: str, id: str) -> tuple[Message, Sequence[Event]]:  # noqa: A002
    campaign_id, _ = parse_message_id(id)
    if is_stream(campaign_id):
        record = postroom.transactional.get(tenant, id)
        return record.message, postroom.transactional.timeline(tenant, record)
    campaign, found = postroom.campaign_reader.message(CampaignRef(tenant, campaign_id), id)
    return found, postroom.campaign_reader.timeline(campaign, found)


def _row(event: Event) -> tuple[str, ...]:
    what = [event.kind.value]
    if event.bounce is not None:
        what += [f"({event.bounce.type}, {event.bounce.category})"]
    if event.machine:
        what += ["(a machine)"]
    attempt = str(event.attempt) if event.attempt else ""
    return shown_time(event.at), " ".join(what), attempt, event.source, " ".join(filter(None, (event.url, event.detail)))


def _as_dict(id: str, message: Message, events: Sequence[Event]) -> dict[str, object]:  # noqa: A002
    return {
        "id": id,
        **message_record(message),
        "events": [event_record(event) for event in events],
    }


inbox_app = typer.Typer(help="Mail that the built-in inbox received.", no_args_is_help=True)

Mail = Annotated[str, typer.Argument(help="Mail id, from `postroom inbox list`.")]


@inbox_app.command("list")
def list_mails(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number of mails.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Cursor that the previous page ended with.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List received mail, newest first."""
    with session(data=data) as postroom:
        page = postroom.inbox.list(cursor=cursor, limit=limit)
    if as_json:
        print_json({"mails": [_mail_record(mail) for mail in page.mails], "cursor": page.cursor})
        return
    rows = [
        (mail.id, shown_time(mail.received_at), mail.from_, ", ".join(mail.to), mail.subject, str(mail.size))
        for mail in page.mails
    ]
    print_rows(("id", "received", "from", "to", "subject", "bytes"), rows, none="no mail received yet")
    if page.cursor is not None:
        say(f"next page: postroom inbox list --cursor {page.cursor}")


@inbox_app.command("show")
def show_mail(mail: Mail, as_json: Json = False, data: Data = None) -> None:
    """Show a mail's headers and text."""
    with session(data=data) as postroom:
        opened = postroom.inbox.show(mail)
    if as_json:
        print_json(
            {**_mail_record(opened.mail), "headers": opened.headers, "text": opened.text, "attachments": opened.attachments}
        )
    else:
        sys.stdout.write(printable(_mail_text(opened)))


@inbox_app.command("save")
def save_mail(
    mail: Mail,
    file: Annotated[Path | None, typer.Argument(help="Target file; - for standard output. Default: <id>.eml.")] = None,
    data: Data = None,
) -> None:
    """Save a mail as an .eml file."""
    with session(data=data) as postroom:
        content = postroom.inbox.raw(mail)
    target = file or Path(f"{mail}.eml")
    if str(target) == "-":
        sys.stdout.buffer.write(content)
        return
    try:
        with target.open("xb") as writing:
            writing.write(content)
    except FileExistsError as error:
        raise Invalid(f"{target} exists already: name another file") from error
    except OSError as error:
        raise StorageFull(f"{target} cannot be written: {error.strerror}") from error
    say(f"saved as {target}")


@inbox_app.command("listen")
def listen_for_mail(
    host: Annotated[
        str, typer.Option(help="Address to listen on. Mail from any client that can connect is accepted.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 for a free one.")] = 2525,
    data: Data = None,
) -> None:
    """Receive mail by SMTP until Ctrl-C or SIGTERM. Prints the address first. (`send` and `serve` do this by themselves.)"""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with session(data=data) as postroom:
        address = postroom.inbox_server.start(host, port)
        sys.stdout.write(f"smtp://{address.host}:{address.port}\n")
        sys.stdout.flush()
        stop.wait()
        postroom.inbox_server.stop()


def _mail_record(mail: InboxEntry) -> dict[str, object]:
    return {
        "id": mail.id,
        "received_at": shown_time(mail.received_at),
        "from": mail.from_,
        "to": mail.to,
        "subject": mail.subject,
        "size": mail.size,
    }


def _mail_text(opened: OpenedMail) -> str:
    headers = "".join(f"{name}: {value}\n" for name, value in opened.headers)
    attachments = "".join(f"[attached: {name}]\n" for name in opened.attachments)
    return f"{headers}\n{opened.text}" + ("" if opened.text.endswith("\n") else "\n") + attachments
