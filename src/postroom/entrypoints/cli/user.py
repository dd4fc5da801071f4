"""`postroom user`: who may sign in, and as what.

`postroom client`: programs that call the API with access tokens of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import Change, recorded, say, session
from postroom.errors import Invalid, NotFound, Unsupported
from postroom.identity.directory import AccessAdmin
from postroom.ledger.audit import INSTALLATION
from postroom.model.access import Membership, Role
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.ports.identity import AccountStatus, IdentityProvider, UserAccount
from postroom.services.users import InvitedUser, UserService
from postroom.wiring import Container

app = typer.Typer(help="Who may sign in, and as what.", no_args_is_help=True)
Who = Annotated[str, typer.Argument(metavar="EMAIL", help="The e-mail address, or the subject.")]
AsRole = Annotated[Role, typer.Option("--role", help="What they may do; each includes those before it.")]


@app.command()
def add(
    email: Annotated[str, typer.Argument(help="Their e-mail address: the name to sign in with.")],
    role: AsRole = Role.VIEWER,
    tenant: OfTenant = DEFAULT_TENANT,
    operator: Annotated[
        bool, typer.Option("--operator", help="May also manage the installation: tenants, shared providers.")
    ] = False,
    subject: Annotated[str | None, typer.Option(help="With an issuer of others (POSTROOM_ISSUER): their `sub` there.")] = None,
    data: Data = None,
) -> None:
    """Let somebody in. Prints a link, good for a day and once, by which they set their password: hand it over yourself. On AWS
    they get a mail instead."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        if postroom.identity is not None:
            if subject is not None:
                raise Invalid("--subject is for an issuer of others: here subjects are given to whoever is let in")
            with recorded(postroom, "user add", tenant=tenant) as change:
                admitted = _user_service(postroom).add(email, tenant=tenant, role=role, operator=operator)
                change.target = _target(_user_service(postroom).membership(admitted.user.subject))
            _tell(admitted)
        elif subject is None:
            raise Invalid("people sign in elsewhere (POSTROOM_ISSUER): say who it is there with --subject")
        else:
            issuer = postroom.settings.issuer or ""
            member = Membership(issuer, subject, tenant, role, email, operator=operator)
            with recorded(postroom, "user add", tenant=tenant, target=_target(member)):
                postroom.memberships.add(member)
    say(f"{email} is {role} of {tenant}")


@app.command()
def invite(who: Who, data: Data = None) -> None:
    """Print a link, good for a day and once, by which somebody sets a new password. What was signed in ends when they do. On AWS
    whoever has no password yet gets another mail; who has one resets it where they sign in."""
    with session(data=data) as postroom:
        user = _user_service(postroom).user(who)
        with _recorded(postroom, "user invite", user):
            admitted = _user_service(postroom).invite(who)
    _tell(admitted)


@app.command("list")
def list_users(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List who belongs to a tenant, programs included."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        users = [_as_dict(member, _person(postroom, member)) for member in _members(postroom, tenant)]
    if as_json:
        print_json(users)
        return
    columns = ("name", "role", "operator", "status", "second_factor", "subject", "added_at")
    rows = [tuple(_shown(user[column]) for column in columns) for user in users]
    print_rows(columns, rows, none="nobody yet: `postroom user add` lets somebody in")


@app.command()
def role(who: Who, role: Annotated[Role, typer.Argument(help="What they may do now.")], data: Data = None) -> None:
    """Change what somebody may do; it counts within seconds. The last admin of a tenant stays one."""
    with session(data=data) as postroom:
        member = _member(postroom, who)
        with recorded(postroom, "user role", tenant=member.tenant, target=_target(member)):
            postroom.memberships.change(member.tenant, member.id, role=role)
    say(f"{member.name} is {role} of {member.tenant}")


@app.command()
def disable(who: Who, data: Data = None) -> None:
    """Let somebody sign in no more; what was signed in ends, access tokens within minutes."""
    with session(data=data) as postroom:
        user = _user_service(postroom).user(who)
        with _recorded(postroom, "user disable", user):
            _identity(postroom).disable(user.subject)
    say(f"{user.email} cannot sign in")


@app.command()
def enable(who: Who, data: Data = None) -> None:
    """Let somebody sign in again."""
    with session(data=data) as postroom:
        user = _user_service(postroom).user(who)
        with _recorded(postroom, "user enable", user):
            _identity(postroom).enable(user.subject)
    say(f"{user.email} can sign in")


@app.command("reset-totp")
def reset_totp(who: Who, data: Data = None) -> None:
    """Take away the second factor of somebody who lost it: their password alone is enough until they set up a new one."""
    with session(data=data) as postroom:
        user = _user_service(postroom).user(who)
        with _recorded(postroom, "user reset-totp", user):
            _identity(postroom).reset_second_factor(user.subject)
    say(f"{user.email} signs in without a second factor")


@app.command()
def remove(who: Who, data: Data = None) -> None:
    """Forget somebody: rights end within seconds, the account is gone. The last admin too."""
    with session(data=data) as postroom:
        if postroom.identity is not None:
            with _recorded(postroom, "user remove", _user_service(postroom).user(who)):
                _user_service(postroom).remove(who)
        else:
            member = _member(postroom, who)
            with recorded(postroom, "user remove", tenant=member.tenant, target=_target(member)):
                postroom.memberships.revoke(member.issuer, member.subject)
    say(f"{who} is removed")


def _recorded(postroom: Container, command: str, user: UserAccount) -> AbstractContextManager[Change]:
    """In the trail of the tenant they belong to; of nobody's, the installation's."""
    member = _user_service(postroom).membership(user.subject)
    return recorded(postroom, command, tenant=INSTALLATION if member is None else member.tenant, target=_target(member))


def _target(member: Membership | None) -> str:
    """For the trail: no address, which could never be erased there."""
    return "" if member is None else f"user/{member.id}"


def print_line(text: str) -> None:
    """Data, on standard output."""
    typer.echo(text)


def _tell(admitted: InvitedUser) -> None:
    """How they come to a password."""
    user, link = admitted
    if link is not None:
        print_line(link)
    elif user.status is AccountStatus.INVITED:
        say(f"{user.email} gets a mail that says how to set a password")
    else:
        say(f"{user.email} has a password; whoever forgot it resets it where people sign in")


def _identity(postroom: Container) -> IdentityProvider:
    if postroom.identity is None:
        raise Unsupported(f"people sign in at {postroom.settings.issuer}: do this there")
    return postroom.identity


def _user_service(postroom: Container) -> UserService:
    return UserService(_identity(postroom), postroom.memberships)


def _members(postroom: Container, tenant: str) -> Iterator[Membership]:
    cursor: str | None = None
    while True:
        page = postroom.memberships.list(tenant, cursor=cursor, limit=1_000)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return


def _member(postroom: Container, who: str) -> Membership:
    """Whoever has that address or subject, in any tenant; of an issuer of others, that subject. `NotFound`."""
    if postroom.identity is not None:
        user = postroom.identity.find(who)
        found = _user_service(postroom).membership(user.subject if user else who)
    else:
        found = postroom.memberships.find(postroom.settings.issuer or "", who)
    if found is None:
        raise NotFound(f"{who!r} belongs to no tenant; `postroom user list` shows who does")
    return found


def _person(postroom: Container, member: Membership) -> UserAccount | None:
    return postroom.identity.find(member.subject) if postroom.identity is not None else None


def _as_dict(member: Membership, user: UserAccount | None) -> dict[str, object]:
    return {
        "name": member.name,
        "role": member.role.value,
        "operator": member.operator,
        "status": "elsewhere" if user is None else user.status.value,  # or a program
        "second_factor": user is not None and user.second_factor,
        "subject": member.subject,
        "added_at": shown_time(member.added_at),
    }


def _shown(value: object) -> str:
    return {True: "yes", False: "-"}[value] if isinstance(value, bool) else str(value)


client_app = typer.Typer(
    help="Programs that call the API with access tokens of their own (OAuth client credentials).", no_args_is_help=True
)


@client_app.command("add")
def add_client(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    role: Annotated[Role, typer.Option("--role", help="What it may do; each includes those before it.")] = Role.VIEWER,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Register a program. Prints its id and its secret, which is not shown again."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        with recorded(postroom, "client add", tenant=tenant) as change:
            client, secret = _client_admin(postroom).add_client(name, tenant=tenant, role=role)
            change.target = f"client/{client.id}"
    if as_json:
        print_json({"client_id": client.id, "client_secret": secret, "name": client.name, "role": role.value, "tenant": tenant})
    else:
        print_rows(("client id", "client secret"), [(client.id, secret)])
        say("keep the secret: it is not shown again")


@client_app.command("list")
def list_clients(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's programs."""
    with session(data=data) as postroom:
        postroom.tenants.read(tenant)
        found = _client_admin(postroom).clients(tenant)
    rows = [
        (client.id, client.name, member.role.value if member else "none", shown_time(client.created_at))
        for client, member in found
    ]
    columns = ("client_id", "name", "role", "created_at")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_rows(columns, rows, none="no programs yet: `postroom client add` registers one")


@client_app.command("revoke")
def revoke_client(id: Annotated[str, typer.Argument(help="The client id.")], data: Data = None) -> None:  # noqa: A002
    """End a program: its rights within seconds, and it gets no tokens any more. Exit code 1: there is none of that id."""
    with session(data=data) as postroom:
        admission = _client_admin(postroom)
        member = admission.membership(id)
        whose = INSTALLATION if member is None else member.tenant
        with recorded(postroom, "client revoke", tenant=whose, target=f"client/{id}"):
            if not admission.revoke_client(id):
                raise NotFound(f"there is no client {id}; `postroom client list` shows a tenant's")
    say(f"revoked {id}")


def _client_admin(postroom: Container) -> AccessAdmin:
    if postroom.issuer is None:
        raise Unsupported(f"programs get their tokens at {postroom.settings.issuer}: register them there, and here as a user")
    return AccessAdmin(postroom.issuer, postroom.memberships)
