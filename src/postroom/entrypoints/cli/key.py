"""`postroom key`: API keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, every_item, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import operator, recorded, say, tenant_session
from postroom.errors import Invalid
from postroom.ledger.api_keys import ApiKeyUse
from postroom.model.access import MAX_KEY_NAME, Principal, Role, Service
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.keys import MAX_DAYS, ApiKeyService

app = typer.Typer(help="API keys for programs.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name, such as the program that uses the key.")],
    role: Annotated[Role, typer.Option(help="Role of the key; each role includes those before it.")],
    tenant: OfTenant = DEFAULT_TENANT,
    days: Annotated[int | None, typer.Option(min=1, max=MAX_DAYS, help="Days until the key expires. Default: never.")] = None,
    scope: Annotated[list[Service] | None, typer.Option(help="Limit the key to this service. Repeatable.")] = None,
    data: Data = None,
) -> None:
    """Create an API key and print it. It is not shown again."""
    if not 1 <= len(name) <= MAX_KEY_NAME or not name.isprintable():
        raise Invalid(f"the name must be one line of 1 to {MAX_KEY_NAME} characters")
    with tenant_session(tenant, data) as postroom:
        scopes = frozenset(scope) if scope else None
        with recorded(postroom, "key add", tenant=tenant) as change:
            created = postroom.api_keys.create(operator(tenant), name, role=role, scopes=scopes, days=days)
            change.target = f"key/{created.key.id}"
    sys.stdout.write(created.text + "\n")
    say(f"key {created.key.id} of {tenant}: keep it, it is not shown again")


@app.command("list")
def list_keys(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's API keys, oldest first, without the keys themselves."""
    with tenant_session(tenant, data) as postroom:
        keys = [_as_dict(used) for used in _list_all(postroom.api_keys, operator(tenant))]
    if as_json:
        print_json(keys)
        return
    rows = [tuple(_cell(key[column]) for column in _COLUMNS) for key in keys]
    print_rows(tuple(_COLUMNS), rows, none="no keys yet: create one with `postroom key add`")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="Key id, from `postroom key list`.")],  # noqa: A002
    tenant: OfTenant = DEFAULT_TENANT,
    data: Data = None,
) -> None:
    """Revoke an API key for good, within seconds. Exit code 1: there is no key with this id."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "key revoke", tenant=tenant, target=f"key/{id}"):
        key = postroom.api_keys.revoke(operator(tenant), id)
    say(f"revoked {key.name}")


_COLUMNS = ("id", "name", "role", "scopes", "created_at", "created_by", "expires_at", "last_used_at")


def _list_all(keys: ApiKeyService, who: Principal) -> Iterator[ApiKeyUse]:
    return every_item(lambda cursor, limit: keys.list(who, cursor=cursor, limit=limit))


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
