"""`postroom user` and `postroom client`: people and programs of a tenant, with their roles.

People sign in; programs get access tokens (OAuth 2.0 client credentials, RFC 6749 section 4.4). With `POSTROOM_ISSUER` set,
accounts are managed at that issuer, and only roles here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated

import typer

from postroom.entrypoints.cli.output import Data, Json, OfTenant, every_item, print_json, print_rows, shown_time
from postroom.entrypoints.cli.session import Change, recorded, say, session, tenant_session
from postroom.errors import Invalid, NotFound, Unsupported
from postroom.identity.directory import AccessAdmin
from postroom.ledger.audit import INSTALLATION
from postroom.model.access import Membership, Role
from postroom.model.tenant import DEFAULT_TENANT
from postroom.platform.ports.identity import AccountStatus, IdentityProvider, UserAccount
from postroom.services.users import InvitedUser, UserService
from postroom.wiring import Container

app = typer.Typer(help="Users who may sign in, and their roles.", no_args_is_help=True)
User = Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address or subject of the user.")]
AsRole = Annotated[Role, typer.Option("--role", help="Role of the user; each role includes those before it.")]


@app.command()
def add(
    email: Annotated[str, typer.Argument(help="E-mail address to sign in with.")],
    role: AsRole = Role.VIEWER,
    tenant: OfTenant = DEFAULT_TENANT,
    operator: Annotated[
        bool, typer.Option("--operator", help="Let the user also manage the installation: tenants, shared providers.")
    ] = False,
    subject: Annotated[
        str | None, typer.Option(help="With an external issuer (POSTROOM_ISSUER): the user's `sub` there.")
    ] = None,
    data: Data = None,
) -> None:
    """Add a user. Prints a link to set a password, valid once and for a day: pass it on yourself. On AWS the user gets a mail."""
    with tenant_session(tenant, data) as postroom:
        if postroom.identity is not None:
            if subject is not None:
                raise Invalid("--subject needs an external issuer (POSTROOM_ISSUER): without one, subjects are generated")
            with recorded(postroom, "user add", tenant=tenant) as change:
                invited = _user_service(postroom).add(email, tenant=tenant, role=role, operator=operator)
                change.target = _target(_user_service(postroom).membership(invited.user.subject))
            _say_invitation(invited)
        elif subject is None:
            raise Invalid("users sign in at an external issuer (POSTROOM_ISSUER): give their subject there with --subject")
        else:
            issuer = postroom.settings.issuer or ""
            member = Membership(issuer, subject, tenant, role, email, operator=operator)
            with recorded(postroom, "user add", tenant=tenant, target=_target(member)):
                postroom.memberships.add(member)
    say(f"{email} is {role} of {tenant}")


@app.command()
def invite(user: User, data: Data = None) -> None:
    """Print a new link to set a password, valid once and for a day; sessions end when it is used.

    On AWS a user without a password gets another mail; one with a password resets it on the sign-in page."""
    with session(data=data) as postroom:
        account = _user_service(postroom).user(user)
        with _recorded(postroom, "user invite", account):
            invited = _user_service(postroom).invite(user)
    _say_invitation(invited)


@app.command("list")
def list_users(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List the users and programs of a tenant."""
    with tenant_session(tenant, data) as postroom:
        users = [_as_dict(member, _account(postroom, member)) for member in _members(postroom, tenant)]
    if as_json:
        print_json(users)
        return
    columns = ("name", "role", "operator", "status", "second_factor", "subject", "added_at")
    rows = [tuple(_shown(user[column]) for column in columns) for user in users]
    print_rows(columns, rows, none="no users yet: add one with `postroom user add`")


@app.command()
def role(user: User, role: Annotated[Role, typer.Argument(help="New role.")], data: Data = None) -> None:
    """Change a user's role, within seconds. The last admin of a tenant must stay admin."""
    with session(data=data) as postroom:
        member = _member(postroom, user)
        with recorded(postroom, "user role", tenant=member.tenant, target=_target(member)):
            postroom.memberships.change(member.tenant, member.id, role=role)
    say(f"{member.name} is {role} of {member.tenant}")


@app.command()
def disable(user: User, data: Data = None) -> None:
    """Disable a user: no sign-in, and sessions end; access tokens expire within minutes."""
    with session(data=data) as postroom:
        account = _user_service(postroom).user(user)
        with _recorded(postroom, "user disable", account):
            _identity(postroom).disable(account.subject)
    say(f"{account.email} cannot sign in")


@app.command()
def enable(user: User, data: Data = None) -> None:
    """Enable a disabled user."""
    with session(data=data) as postroom:
        account = _user_service(postroom).user(user)
        with _recorded(postroom, "user enable", account):
            _identity(postroom).enable(account.subject)
    say(f"{account.email} can sign in")


@app.command("reset-totp")
def reset_totp(user: User, data: Data = None) -> None:
    """Remove a user's lost second factor. The password alone is enough until a new one is set up."""
    with session(data=data) as postroom:
        account = _user_service(postroom).user(user)
        with _recorded(postroom, "user reset-totp", account):
            _identity(postroom).reset_second_factor(account.subject)
    say(f"{account.email} signs in without a second factor")


@app.command()
def remove(user: User, data: Data = None) -> None:
    """Delete a user and the account; access ends within seconds. This removes the last admin too."""
    with session(data=data) as postroom:
        if postroom.identity is not None:
            with _recorded(postroom, "user remove", _user_service(postroom).user(user)):
                _user_service(postroom).remove(user)
        else:
            member = _member(postroom, user)
            with recorded(postroom, "user remove", tenant=member.tenant, target=_target(member)):
                postroom.memberships.revoke(member.issuer, member.subject)
    say(f"removed {user}")


def _recorded(postroom: Container, command: str, account: UserAccount) -> AbstractContextManager[Change]:
    """Record a change in the audit trail of the user's tenant; without one, in the installation's."""
    member = _user_service(postroom).membership(account.subject)
    return recorded(postroom, command, tenant=INSTALLATION if member is None else member.tenant, target=_target(member))


def _target(member: Membership | None) -> str:
    """Return the audit target: no address, because it could never be erased from the trail."""
    return "" if member is None else f"user/{member.id}"


def _say_invitation(invited: InvitedUser) -> None:
    """Print how the user gets a password."""
    account, link = invited
    if link is not None:
        typer.echo(link)
    elif account.status is AccountStatus.INVITED:
        say(f"{account.email} gets a mail that says how to set a password")
    else:
        say(f"{account.email} has a password already; a forgotten one is reset on the sign-in page")


def _identity(postroom: Container) -> IdentityProvider:
    if postroom.identity is None:
        raise Unsupported(f"users sign in at {postroom.settings.issuer}: do this there")
    return postroom.identity


def _user_service(postroom: Container) -> UserService:
    return UserService(_identity(postroom), postroom.memberships)


def _members(postroom: Container, tenant: str) -> Iterator[Membership]:
    return every_item(lambda cursor, limit: postroom.memberships.list(tenant, cursor=cursor, limit=limit))


def _member(postroom: Container, user: str) -> Membership:
    """Find a user by address or subject, in any tenant; with an external issuer by subject. Raises `NotFound`."""
    if postroom.identity is not None:
        account = postroom.identity.find(user)
        found = _user_service(postroom).membership(account.subject if account else user)
    else:
        found = postroom.memberships.find(postroom.settings.issuer or "", user)
    if found is None:
        raise NotFound(f"{user!r} belongs to no tenant; see `postroom user list`")
    return found


def _account(postroom: Container, member: Membership) -> UserAccount | None:
    return postroom.identity.find(member.subject) if postroom.identity is not None else None


def _as_dict(member: Membership, account: UserAccount | None) -> dict[str, object]:
    return {
        "name": member.name,
        "role": member.role.value,
        "operator": member.operator,
        "status": "elsewhere" if account is None else account.status.value,  # a program, or an external issuer
        "second_factor": account is not None and account.second_factor,
        "subject": member.subject,
        "added_at": shown_time(member.added_at),
    }


def _shown(value: object) -> str:
    return {True: "yes", False: "-"}[value] if isinstance(value, bool) else str(value)


client_app = typer.Typer(help="Programs that call the API with OAuth client credentials.", no_args_is_help=True)


@client_app.command("add")
def add_client(
    name: Annotated[str, typer.Argument(help="Name of the program.")],
    role: Annotated[Role, typer.Option("--role", help="Role of the program; each role includes those before it.")] = Role.VIEWER,
    tenant: OfTenant = DEFAULT_TENANT,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Create a client. Prints its id and secret; the secret is not shown again."""
    with tenant_session(tenant, data) as postroom, recorded(postroom, "client add", tenant=tenant) as change:
        client, secret = _client_admin(postroom).add_client(name, tenant=tenant, role=role)
        change.target = f"client/{client.id}"
    if as_json:
        print_json({"client_id": client.id, "client_secret": secret, "name": client.name, "role": role.value, "tenant": tenant})
    else:
        print_rows(("client id", "client secret"), [(client.id, secret)])
        say("keep the secret: it is not shown again")


@client_app.command("list")
def list_clients(tenant: OfTenant = DEFAULT_TENANT, as_json: Json = False, data: Data = None) -> None:
    """List a tenant's clients."""
    with tenant_session(tenant, data) as postroom:
        found = _client_admin(postroom).clients(tenant)
    rows = [
        (client.id, client.name, member.role.value if member else "none", shown_time(client.created_at))
        for client, member in found
    ]
    columns = ("client_id", "name", "role", "created_at")
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_rows(columns, rows, none="no clients yet: create one with `postroom client add`")


@client_app.command("revoke")
def revoke_client(id: Annotated[str, typer.Argument(help="Client id.")], data: Data = None) -> None:  # noqa: A002
    """Revoke a client: access ends within seconds, and it gets no more tokens. Exit code 1: there is no such client."""
    with session(data=data) as postroom:
        admin = _client_admin(postroom)
        member = admin.membership(id)
        tenant = INSTALLATION if member is None else member.tenant
        with recorded(postroom, "client revoke", tenant=tenant, target=f"client/{id}"):
            if not admin.revoke_client(id):
                raise NotFound(f"there is no client {id}; see `postroom client list`")
    say(f"revoked {id}")


def _client_admin(postroom: Container) -> AccessAdmin:
    if postroom.issuer is None:
        raise Unsupported(
            f"clients get their tokens at {postroom.settings.issuer}: create them there, and add them as users here"
        )
    return AccessAdmin(postroom.issuer, postroom.memberships)
