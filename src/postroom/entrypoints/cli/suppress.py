"""`postroom suppress`: the suppression list, addresses that are never sent to."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, printable, shown_time
from postroom.entrypoints.cli.session import BAD_INPUT, FAILED, recorded, say, tenant_option, tenant_session
from postroom.errors import Invalid
from postroom.ledger.suppression import SuppressionEntry, SuppressionReason
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.callbacks import parse_instant

app = typer.Typer(help="Suppression list: addresses that are never sent to.", no_args_is_help=True)
Address = Annotated[str, typer.Argument(help="E-mail address in any spelling.")]
Reason = Annotated[SuppressionReason, typer.Option(help="Reason for the suppression.")]
OfTopic = Annotated[str | None, typer.Option(help="Only mail of this topic. Default: all mail.")]


@app.command()
def add(
    address: Address,
    reason: Reason = SuppressionReason.MANUAL,
    note: Annotated[str, typer.Option(help="Free-text note.")] = "",
    topic: OfTopic = None,
    until: Annotated[str | None, typer.Option(help="Expiry time, e.g. 2026-12-01T09:00:00Z. Default: never.")] = None,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Add an address to the suppression list. Unsubscribes and complaints replace other reasons."""
    with tenant_session(tenant, data) as postroom:
        suppressions = postroom.suppressions.for_tenant(tenant)
        with recorded(postroom, "suppress add", tenant=tenant) as change:
            ends = None if until is None else parse_instant(until)
            added = suppressions.add(address, reason=reason, note=note, topic=topic, until=ends)
            change.target = _target(suppressions.entries_of(address))
    say("added" if added else "already on the list")


@app.command()
def remove(address: Address, topic: OfTopic = None, tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Remove an address from the suppression list. Prints how to add it again. Exit code 1: it was not on the list."""
    with tenant_session(tenant, data) as postroom:
        suppressions = postroom.suppressions.for_tenant(tenant)
        entries = suppressions.entries_of(address)
        with recorded(postroom, "suppress remove", tenant=tenant, target=_target(entries)):
            removed = suppressions.remove(address, topic=topic)
    if not removed:
        say(f"{address} is not on the list")
        raise typer.Exit(FAILED)
    say("removed; to undo:")
    for entry in entries:
        if topic in {None, entry.topic}:
            say(printable(f"postroom suppress add {_add_arguments(address, entry)}{tenant_option(tenant)}"))


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Maximum number of entries.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Cursor that the previous page ended with.")] = None,
    address: Annotated[str | None, typer.Option(help="Only this address, in any spelling.")] = None,
    as_json: Json = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """List suppressions, in no particular order."""
    with tenant_session(tenant, data) as postroom:
        if address is None:
            page = postroom.suppressions.for_tenant(tenant).list(cursor=cursor, limit=limit)
            entries, following = page.items, page.cursor
        else:
            entries, following = postroom.suppressions.for_tenant(tenant).entries_of(address), None
    if as_json:
        print_json({"suppressions": [_as_dict(entry) for entry in entries], "cursor": following})
        return
    print_rows(
        ("address", "reason", "added", "until", "topic", "source", "note"),
        [_row(entry) for entry in entries],
        none="the suppression list is empty" if address is None else f"{address} is not on the list",
    )
    if following is not None:
        say(f"next page: postroom suppress list --cursor {following}{tenant_option(tenant)}")


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="CSV file in UTF-8, an address a row, with or without a header; - for standard input.")
    ],
    reason: Reason = SuppressionReason.MANUAL,
    as_json: Json = False,
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Add all addresses of a CSV file to the suppression list. Exit code 2: some rows were rejected; they are listed."""
    try:
        with tenant_session(tenant, data) as postroom, sys.stdin.buffer if str(file) == "-" else file.open("rb") as reading:
            suppressions = postroom.suppressions.for_tenant(tenant)
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
        say(f"{done.rows:,} rows: {done.added:,} added, {done.already:,} already on the list, {len(done.rejected):,} rejected")
    if done.rejected:
        raise typer.Exit(BAD_INPUT)


@app.command()
def export(tenant: OfTenant = DEFAULT_TENANT, data: Data = None) -> None:
    """Export the suppression list as CSV to standard output, for `import`."""
    with tenant_session(tenant, data) as postroom:
        for line in postroom.suppressions.for_tenant(tenant).export_csv():
            sys.stdout.write(line)


def _add_arguments(address: str, entry: SuppressionEntry) -> str:
    """Return the arguments of `add` that create the same entry again."""
    words = ["--reason", entry.reason.value]
    words += ["--topic", entry.topic] if entry.topic else []
    words += ["--note", entry.note] if entry.note else []
    words += ["--until", shown_time(entry.expires_at)] if entry.expires_at is not None else []
    return shlex.join([address, *words])


def _target(entries: Sequence[SuppressionEntry]) -> str:
    """Return the audit target with the person's key: an address in the audit trail could never be erased."""
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
