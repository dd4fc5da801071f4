"""`postroom provider`: SMTP relays and SES accounts that mail is sent through."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, print_findings, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import recorded, say, session
from postroom.errors import Invalid
from postroom.ledger.audit import INSTALLATION
from postroom.ledger.providers import ProviderSpec
from postroom.model.provider import MessageStream, Provider, UsageLimits, parse_warm_up
from postroom.services.providers import ProviderCaller, provider_url
from postroom.wiring import Container

app = typer.Typer(help="SMTP relays and SES accounts, shared by all tenants or owned by one.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Provider name: lower-case letters, digits and '-'.")]
Owner = Annotated[str | None, typer.Option("--tenant", help="Tenant that owns the provider. Default: shared by all tenants.")]


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="URL: smtp://user@host:port?option=value or ses://key-id@region?option=value")],
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password in its first line; - for standard input. Safer than in the URL.")
    ] = None,
    per_second: Annotated[float | None, typer.Option(min=0.1, max=1_000_000, help="Maximum recipients per second.")] = None,
    per_day: Annotated[int | None, typer.Option(min=1, max=1_000_000_000, help="Maximum recipients per UTC day.")] = None,
    connections: Annotated[int | None, typer.Option(min=1, max=1_000, help="Maximum connections at a time per worker.")] = None,
    warm_up: Annotated[
        str | None,
        typer.Option(
            help="Warm-up, e.g. 200x1.5: 200 recipients on the first day, times 1.5 each day. With final limit and first day: "
            "200x1.5-50000@2026-12-01. With --replace and no first day, a running warm-up continues."
        ),
    ] = None,
    stream: Annotated[
        list[MessageStream] | None, typer.Option(help="Message stream it carries. Repeatable. Default: all.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change the existing provider. The password is kept if the URL is unchanged.")
    ] = False,
    tenant: Owner = None,
    data: Data = None,
) -> None:
    """Add a provider, or change one with --replace."""
    whole = provider_url(url, None if password_file is None else _first_line(password_file))
    use = UsageLimits(per_second, per_day, connections, None if warm_up is None else parse_warm_up(warm_up))
    change = ProviderSpec(whole, use, frozenset(stream or MessageStream))
    with session(data=data) as postroom:
        caller = _caller(postroom, tenant)
        with recorded(
            postroom, f"provider add{' --replace' if replace else ''}", tenant=tenant or INSTALLATION, target=f"provider/{name}"
        ):
            if replace:
                postroom.provider_service.change(caller, _own(postroom, caller, name), change)
            else:
                postroom.provider_service.create(caller, name, change, shared=tenant is None)
    say("changed" if replace else f"added; test it with: postroom provider test {name}{_tenant_option(tenant)}")


@app.command("list")
def list_providers(tenant: Owner = None, as_json: Json = False, data: Data = None) -> None:
    """List shared providers and the default one; with --tenant, all that the tenant may use."""
    with session(data=data) as postroom:
        providers = postroom.provider_service.list(_caller(postroom, tenant))
    if as_json:
        print_json([_as_dict(provider) for provider in providers])
        return
    rows = [(one.name, one.tenant or "shared", one.url, _limits(one), " ".join(sorted(one.streams))) for one in providers]
    print_rows(("name", "tenant", "url", "limits", "streams"), rows)


@app.command()
def show(name: Name, tenant: Owner = None, as_json: Json = False, data: Data = None) -> None:
    """Show a provider, without its password."""
    with session(data=data) as postroom:
        shown = _as_dict(postroom.provider_service.get(_caller(postroom, tenant), name))
    if as_json:
        print_json(shown)
    else:
        print_rows(("", ""), [(key, " ".join(value) if isinstance(value, list) else str(value)) for key, value in shown.items()])


@app.command()
def remove(name: Name, tenant: Owner = None, data: Data = None) -> None:
    """Remove a provider and its password. Campaigns that use it wait until a provider of that name exists again."""
    with session(data=data) as postroom:
        caller = _caller(postroom, tenant)
        _own(postroom, caller, name)
        with recorded(postroom, "provider remove", tenant=tenant or INSTALLATION, target=f"provider/{name}"):
            postroom.provider_service.delete(caller, name)
    say("removed")


@app.command("test")
def try_out(name: Name, tenant: Owner = None, as_json: Json = False, data: Data = None) -> None:
    """Test a provider: connect and log in, or query the limits of Amazon SES. Nothing is sent. Exit code 1: a check failed."""
    with session(data=data) as postroom:
        findings = postroom.provider_service.test(_caller(postroom, tenant), name)
    print_findings(findings, as_json=as_json)


def _caller(postroom: Container, tenant: str | None) -> ProviderCaller:
    """Return an operator as the caller. Raises `NotFound` if there is no such tenant."""
    return ProviderCaller(None if tenant is None else postroom.tenants.get(tenant).id, operator=True)


def _own(postroom: Container, caller: ProviderCaller, name: str) -> Provider:
    """Return the caller's own provider: `--tenant` never reaches a shared one of the same name."""
    provider = postroom.provider_service.get(caller, name)
    if provider.tenant != caller.tenant:
        raise Invalid(f"the provider {name} is not the tenant's own: leave out --tenant")
    return provider


def _first_line(file: Path) -> str:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"the password cannot be read from {file}") from error
    if not text.strip():
        raise Invalid(f"there is no password in {file}")
    return text.splitlines()[0]


def _as_dict(provider: Provider) -> dict[str, object]:
    use = provider.use
    return {
        "name": provider.name,
        "tenant": provider.tenant,
        "url": provider.url,
        "has_password": provider.has_password,
        "per_second": use.per_second,
        "per_day": use.per_day,
        "connections": use.connections,
        "warm_up": None if use.warm_up is None else str(use.warm_up),
        "today": provider.today,
        "streams": sorted(provider.streams),
        "created_at": None if provider.created_at is None else shown_time(provider.created_at),
    }


def _limits(provider: Provider) -> str:
    use = provider.use
    warming = provider.today if use.warm_up is not None and provider.today != use.per_day else None
    parts = [(use.per_second, "a second"), (use.per_day, "a day"), (warming, "today"), (use.connections, "connections")]
    return ", ".join(f"{number:,} {what}" for number, what in parts if number is not None)


def _tenant_option(tenant: str | None) -> str:
    return "" if tenant is None else f" --tenant {tenant}"
