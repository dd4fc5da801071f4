"""`postroom suppress`: who must not be written to."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.session import BAD_INPUT, FAILED, of_tenant, recorded, say, session
from postroom.errors import Invalid
from postroom.ledger.suppression import SuppressionEntry, SuppressionReason
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.callbacks import parse_instant
from postroom.services.suppression import TenantSuppressions
from postroom.wiring import Container

app = typer.Typer(help="People who must not be written to.", no_args_is_help=True)
Address = Annotated[str, typer.Argument(help="Any spelling of it.")]
Because = Annotated[SuppressionReason, typer.Option(help="Why.")]
OfTopic = Annotated[str | None, typer.Option(help="Only mail of this topic; without it, all mail.")]


@app.command()
def add(
    address: Address,
    reason: Because = SuppressionReason.MANUAL,
    note: Annotated[str, typer.Option(help="Free text, kept with it.")] = "",
    topic: OfTopic = None,
    until: Annotated[str | None, typer.Option(help="When it ends by itself: 2026-12-01T09:00:00Z. Without it: never.")] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Enter an address. A person's own will (unsubscribe, complaint) replaces other reasons."""
    with session(data=data) as postroom:
        suppressions = _list(postroom, tenant)
        with recorded(postroom, "suppress add", tenant=tenant) as change:
            ends = None if until is None else parse_instant(until)
            added = suppressions.add(address, reason=reason, note=note, topic=topic, until=ends)
            change.target = _target(suppressions.entries_of(address))
    say("added" if added else "was on the list already")


@app.command()
def remove(address: Address, topic: OfTopic = None, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Take an address off the list, of every topic too, or of one alone, and say how to enter it again. Exit code 1: it was not
    on it."""
    with session(data=data) as postroom:
        suppressions = _list(postroom, tenant)
        entries = suppressions.entries_of(address)
        with recorded(postroom, "suppress remove", tenant=tenant, target=_target(entries)):
            removed = suppressions.remove(address, topic=topic)
    if not removed:
        say(f"{address} is not on the list")
        raise typer.Exit(FAILED)
    say("removed; to undo that:")
    for entry in entries:
        if topic in {None, entry.topic}:
            say(printable(f"postroom suppress add {_again(address, entry)}{of_tenant(tenant)}"))


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where to go on: what the last list ended with.")] = None,
    address: Annotated[str | None, typer.Option(help="Only this address, in any spelling.")] = None,
    as_json: Json = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """List entries, in no particular order."""
    with session(data=data) as postroom:
        if address is None:
            page = _list(postroom, tenant).list(cursor=cursor, limit=limit)
            entries, following = page.items, page.cursor
        else:
            entries, following = _list(postroom, tenant).entries_of(address), None
    if as_json:
        print_json({"suppressions": [_as_dict(entry) for entry in entries], "cursor": following})
        return
    print_rows(
        ("address", "reason", "added", "until", "topic", "source", "note"),
        [_row(entry) for entry in entries],
        none="nobody is on the list" if address is None else f"{address} is not on the list",
    )
    if following is not None:
        say(f"more with: postroom suppress list --cursor {following}{of_tenant(tenant)}")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV in UTF-8: an address a row, with or without a header; - for standard input.")],
    reason: Because = SuppressionReason.MANUAL,
    as_json: Json = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Enter every row of a CSV file. Exit code 2: some rows were not entered; they are listed."""
    try:
        with session(data=data) as postroom, sys.stdin.buffer if str(file) == "-" else file.open("rb") as reading:
            suppressions = _list(postroom, tenant)
            with recorded(postroom, "suppress import", tenant=tenant, target="suppressions/import"):
                done = suppressions.import_csv(reading, reason=reason)
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}") from error
    if as_json:
        rejected = [{"line": line.line, "address": line.text, "reason": line.reason} for line in done.rejected]
        print_json({"rows": done.rows, "added": done.added, "already": done.already, "rejected": rejected})
    else:
        for line in done.rejected:
            say(f"line {line.line}: {line.text!r}: {line.reason}")
        say(f"{done.rows:,} rows: {done.added:,} added, {done.already:,} were there already, {len(done.rejected):,} rejected")
    if done.rejected:
        raise typer.Exit(BAD_INPUT)


@app.command()
def export(tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Write the whole list as CSV to standard output; `import` takes it back."""
    with session(data=data) as postroom:
        for line in _list(postroom, tenant).export_csv():
            sys.stdout.write(line)


def _list(postroom: Container, tenant: str) -> TenantSuppressions:
    postroom.tenants.read(tenant)
    return postroom.suppressions.for_tenant(tenant)


def _again(address: str, entry: SuppressionEntry) -> str:
    """What `add` makes an entry like it from."""
    words = ["--reason", entry.reason.value]
    words += ["--topic", entry.topic] if entry.topic else []
    words += ["--note", entry.note] if entry.note else []
    words += ["--until", shown_time(entry.expires_at)] if entry.expires_at is not None else []
    return shlex.join([address, *words])


def _target(entries: Sequence[SuppressionEntry]) -> str:
    """Their person's key, for the trail: an address in there could never be erased."""
    return f"suppression/{entries[0].key.hex()}" if entries else ""


def _row(entry: SuppressionEntry) -> tuple[str, ...]:
    until = "" if entry.expires_at is None else shown_time(entry.expires_at)
    return entry.address, entry.reason.value, shown_time(entry.added_at), until, entry.topic or "", entry.source, entry.note


def _as_dict(entry: SuppressionEntry) -> dict[str, object]:
    return {
        "address": entry.address,
        "reason": entry.reason.value,
        "added_at": shown_time(entry.added_at),
        "note": entry.note,
        "topic": entry.topic,
        "expires_at": None if entry.expires_at is None else shown_time(entry.expires_at),
        "source": entry.source,
    }
