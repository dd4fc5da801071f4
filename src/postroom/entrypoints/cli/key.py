"""`postroom key`: API keys, with which programs call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import operator, recorded, say, session
from postroom.errors import Invalid
from postroom.ledger.api_keys import ApiKeyUse
from postroom.model.access import MAX_KEY_NAME, Principal, Role, Service
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.keys import MAX_DAYS, ApiKeyService

app = typer.Typer(help="API keys, with which programs call.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="For people: which program has it.")],
    role: Annotated[Role, typer.Option(help="What it may do; each role includes those before it.")],
    tenant: OfTenant = DEFAULT_TENANT,
    days: Annotated[int | None, typer.Option(min=1, max=MAX_DAYS, help="Refused after so many days; without: never.")] = None,
    scope: Annotated[list[Service] | None, typer.Option(help="Only for this service; may be repeated.")] = None,
    data: Data = None,
) -> None:
    """Make a key. Its text, the only line on standard output, is not shown again."""
    if not 1 <= len(name) <= MAX_KEY_NAME or not name.isprintable():
        raise Invalid(f"a key's name is one line of 1 to {MAX_KEY_NAME} characters")
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        scopes = frozenset(scope) if scope else None
        with recorded(postroom, "key add", tenant=tenant) as change:
            made = postroom.api_keys.create(operator(tenant), name, role=role, scopes=scopes, days=days)
            change.target = f"key/{made.key.id}"
    sys.stdout.write(made.text + "\n")
    say(f"key {made.key.id} of {tenant}: keep its text, it is not shown again")


@app.command("list")
def list_keys(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's keys, oldest first: not their texts."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        keys = [_as_dict(used) for used in _every(postroom.api_keys, operator(tenant))]
    if as_json:
        print_json(keys)
        return
    rows = [tuple(_cell(key[column]) for column in _COLUMNS) for key in keys]
    print_rows(tuple(_COLUMNS), rows, none="no keys yet: `postroom key add` makes one")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="The key's id.")],  # noqa: A002
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Refuse a key within seconds, for ever. Exit code 1: there is none of that id."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "key revoke", tenant=tenant, target=f"key/{id}"):
            key = postroom.api_keys.revoke(operator(tenant), id)
    say(f"revoked {key.name}")


_COLUMNS = ("id", "name", "role", "scopes", "created_at", "created_by", "expires_at", "last_used_at")


def _every(keys: ApiKeyService, who: Principal) -> Iterator[ApiKeyUse]:
    cursor: str | None = None
    while True:
        page = keys.list(who, cursor=cursor, limit=1_000)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return


def _as_dict(used: ApiKeyUse) -> dict[str, object]:
    key = used.key
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role.value,
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "created_at": shown_time(key.created_at),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else shown_time(key.expires_at),
        "last_used_at": None if used.last_used_at is None else shown_time(used.last_used_at),
    }


def _cell(value: object) -> str:
    return ",".join(value) if isinstance(value, list) else "" if value is None else str(value)
