"""`postroom inbox`: what the built-in inbox received."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.options import Data, Json
from postroom.entrypoints.cli.output import print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.session import say, session
from postroom.errors import Invalid, StorageFull
from postroom.services.inbox import InboxEntry, OpenedMail

app = typer.Typer(help="Mail that the built-in inbox received.", no_args_is_help=True)
Mail = Annotated[str, typer.Argument(help="The mail's id, from `postroom inbox list`.")]


@app.command("list")
def list_mails(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many, the newest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where to go on: what the last list ended with.")] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List mails, the newest first."""
    with session(data=data) as postroom:
        page = postroom.inbox.list(cursor=cursor, limit=limit)
    if as_json:
        print_json({"mails": [_as_dict(mail) for mail in page.mails], "cursor": page.cursor})
        return
    rows = [
        (mail.id, shown_time(mail.received_at), mail.from_, ", ".join(mail.to), mail.subject, str(mail.size))
        for mail in page.mails
    ]
    print_rows(("id", "received", "from", "to", "subject", "bytes"), rows, none="nothing has arrived")
    if page.cursor is not None:
        say(f"more with: postroom inbox list --cursor {page.cursor}")


@app.command()
def show(mail: Mail, as_json: Json = False, data: Data = None) -> None:
    """Show a mail's headers and text."""
    with session(data=data) as postroom:
        opened = postroom.inbox.show(mail)
    if as_json:
        print_json({**_as_dict(opened.mail), "headers": opened.headers, "text": opened.text, "attachments": opened.attachments})
    else:
        sys.stdout.write(printable(_as_text(opened)))


@app.command()
def save(
    mail: Mail,
    file: Annotated[Path | None, typer.Argument(help="Where to; <id>.eml when not given, - for standard output.")] = None,
    data: Data = None,
) -> None:
    """Save a whole mail as an .eml file, which any mail program opens."""
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


@app.command()
def listen(
    host: Annotated[str, typer.Option(help="Where to listen. Whoever can connect can leave mail.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any that is free.")] = 2525,
    data: Data = None,
) -> None:
    """Receive mail from any program until Ctrl-C or SIGTERM; prints its address first. (`send` does this by itself.)"""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with session(data=data) as postroom:
        address = postroom.inbox_server.start(host, port)
        sys.stdout.write(f"smtp://{address.host}:{address.port}\n")
        sys.stdout.flush()
        stop.wait()
        postroom.inbox_server.stop()


def _as_dict(mail: InboxEntry) -> dict[str, object]:
    return {
        "id": mail.id,
        "received_at": shown_time(mail.received_at),
        "from": mail.from_,
        "to": mail.to,
        "subject": mail.subject,
        "size": mail.size,
    }


def _as_text(opened: OpenedMail) -> str:
    headers = "".join(f"{name}: {value}\n" for name, value in opened.headers)
    attachments = "".join(f"[attached: {name}]\n" for name in opened.attachments)
    return f"{headers}\n{opened.text}" + ("" if opened.text.endswith("\n") else "\n") + attachments
