"""People and programs with what they may do: in and out, from the code and from the command line, and the very first one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from postroom.entrypoints.cli import app
from postroom.errors import Conflict, NotFound, Unavailable
from postroom.identity.directory import FIRST_ADMIN, AccessAdmin, first_invitation
from postroom.identity.provider import OpenIdProvider
from postroom.ledger.memberships import Memberships
from postroom.model.access import BUILT_IN, Role
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.identity.provider_kit import EMAIL, PASSWORD, URL, add_user, provider_on


@pytest.fixture
def memberships(tables: SqliteTables, clock: ManualClock) -> Memberships:
    return Memberships(tables, clock)


@pytest.fixture
def admission(provider: OpenIdProvider, memberships: Memberships) -> AccessAdmin:
    return AccessAdmin(provider, memberships)


def test_whoever_is_let_in_has_a_role_and_a_link(admission: AccessAdmin, provider: OpenIdProvider) -> None:
    admitted = admission.add(EMAIL, tenant="acme", role=Role.EDITOR, operator=True)
    member = admission.membership(admitted.user.subject)
    assert member is not None
    assert (member.issuer, member.tenant, member.role, member.name, member.operator) == (
        BUILT_IN,
        "acme",
        Role.EDITOR,
        EMAIL,
        True,
    )
    assert admitted.link is not None
    provider.accept_invitation(admitted.link.partition("token=")[2], PASSWORD)
    with pytest.raises(Conflict, match="is in already"):
        admission.add(EMAIL, tenant="other", role=Role.ADMIN)


def test_letting_in_goes_on_where_a_crash_left_it(
    admission: AccessAdmin, memberships: Memberships, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise Unavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(memberships, "add", lost)
        with pytest.raises(Unavailable):
            admission.add(EMAIL, tenant="acme", role=Role.EDITOR)
    subject = admission.user(EMAIL).subject
    assert admission.membership(subject) is None
    assert admission.add(EMAIL, tenant="acme", role=Role.EDITOR).user.subject == subject


def test_whoever_is_removed_has_no_rights_whatever_a_crash_leaves(
    admission: AccessAdmin, provider: OpenIdProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = admission.add(EMAIL, tenant="acme", role=Role.ADMIN).user.subject

    def lost(_: str) -> bool:
        raise Unavailable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(provider.users, "delete", lost)
        with pytest.raises(Unavailable):
            admission.remove(EMAIL)
    assert admission.membership(subject) is None
    admission.remove(EMAIL)
    with pytest.raises(NotFound):
        admission.remove(EMAIL)


def test_a_program_comes_with_its_membership_and_goes_with_it(admission: AccessAdmin) -> None:
    client, secret = admission.add_client("nightly", tenant="acme", role=Role.SENDER)
    assert client.id.startswith("acme.")
    assert client.proves(secret)
    assert secret not in repr(client)
    ((listed, member),) = admission.clients("acme")
    assert (listed, member and member.role) == (client, Role.SENDER)
    assert admission.clients("other") == []
    assert admission.revoke_client(client.id)
    assert not admission.revoke_client(client.id)
    assert admission.membership(client.id) is None


def test_the_first_start_invites_an_administrator_until_somebody_has_a_password(
    provider: OpenIdProvider, memberships: Memberships
) -> None:
    links = [first_invitation(provider, memberships) for _ in range(2)]
    assert all(link is not None and link.startswith(f"{URL}/oauth2/invitation?token=") for link in links)
    (user,) = provider.users.list().items
    member = memberships.find(BUILT_IN, user.subject)
    assert member is not None
    assert (user.email, member.role, member.operator, member.tenant) == (FIRST_ADMIN, Role.ADMIN, True, "default")
    provider.accept_invitation((links[1] or "").partition("token=")[2], PASSWORD)
    assert first_invitation(provider, memberships) is None


def test_no_administrator_appears_where_somebody_can_sign_in(provider: OpenIdProvider, memberships: Memberships) -> None:
    add_user(provider)
    assert first_invitation(provider, memberships) is None
    assert provider.users.by_email(FIRST_ADMIN) is None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRun:
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return CliRun()


class CliRun:
    """`postroom …`, in this process."""

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    def users(self) -> list[dict[str, object]]:
        users: list[dict[str, object]] = json.loads(self("user", "list", "--json").stdout)
        return users


def test_the_command_line_keeps_people(run: CliRun) -> None:
    link = run("user", "add", EMAIL, "--role", "admin", "--operator").stdout.strip()
    assert link.startswith("http://127.0.0.1:8400/oauth2/invitation?token=")
    assert run.users()[0] | {"subject": "", "added_at": ""} == {
        "name": EMAIL,
        "role": "admin",
        "operator": True,
        "status": "invited",
        "second_factor": False,
        "subject": "",
        "added_at": "",
    }
    run("user", "add", "bob@example.org")
    assert run("user", "role", "bob@example.org", "sender").exit_code == 0
    assert run("user", "disable", "BOB@example.org").exit_code == 0
    states = {user["name"]: (user["role"], user["status"]) for user in run.users()}
    assert states == {EMAIL: ("admin", "invited"), "bob@example.org": ("sender", "disabled")}
    assert run("user", "enable", "bob@example.org").exit_code == 0
    assert run("user", "reset-totp", "bob@example.org").exit_code == 0
    assert "token=" in run("user", "invite", "bob@example.org").stdout
    assert run("user", "remove", "bob@example.org").exit_code == 0
    assert isinstance(run("user", "remove", "bob@example.org").exception, NotFound)
    assert isinstance(run("user", "add", "x@example.org", "--tenant", "nowhere").exception, NotFound)


def test_the_command_line_knows_people_of_an_issuer_of_others(run: CliRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_ISSUER", "https://idp.example")
    monkeypatch.setenv("POSTROOM_AUDIENCE", "postroom")
    assert run("user", "add", EMAIL, "--subject", "00u1").exit_code == 0
    assert [(user["subject"], user["status"]) for user in run.users()] == [("00u1", "elsewhere")]
    assert "do this there" in str(run("user", "invite", EMAIL).exception)
    assert "--subject" in str(run("user", "add", EMAIL).exception)
    assert run("user", "remove", "00u1").exit_code == 0
    assert run.users() == []


def test_the_command_line_keeps_programs(run: CliRun) -> None:
    made = json.loads(run("client", "add", "nightly", "--role", "sender", "--json").stdout)
    assert made["client_id"].startswith("default.")
    (listed,) = json.loads(run("client", "list", "--json").stdout)
    assert (listed["client_id"], listed["role"]) == (made["client_id"], "sender")
    assert made["client_secret"] not in run("client", "list").stdout
    assert run("client", "revoke", made["client_id"]).exit_code == 0
    assert run("client", "revoke", made["client_id"]).exit_code == 1


def test_a_door_that_moves_keeps_its_people(tables: SqliteTables, clock: ManualClock, memberships: Memberships) -> None:
    """Memberships name the built-in issuer, not its address."""
    before, after = (AccessAdmin(provider_on(tables, clock, url=url), memberships) for url in (URL, "https://mail.example"))
    subject = before.add(EMAIL, tenant="acme", role=Role.EDITOR).user.subject
    assert after.membership(subject) == before.membership(subject) is not None
