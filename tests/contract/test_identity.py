"""The promise of `ports.identity`: in a user pool, and at the built-in issuer, which is its equal on one machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postroom.errors import Invalid, NotFound
from postroom.platform.ports.identity import AccountStatus, IdentityProvider, UserAccount
from tests.contract.backend import Backend

ADA = "ada@example.org"
NOBODY = "0123456789abcdefghij"


@pytest.fixture
def identity(backend: Backend) -> IdentityProvider:
    return backend.identity()


def test_whoever_is_invited_is_found_by_address_in_any_case_and_by_subject(backend: Backend, identity: IdentityProvider) -> None:
    account, _ = identity.invite(f"  {ADA} ")
    assert account == UserAccount(account.subject, ADA, AccountStatus.INVITED)
    other = backend.identity()
    for who in (ADA, "Ada@EXAMPLE.org", f" {ADA}", account.subject):
        assert other.find(who) == account
    assert identity.find("bob@example.org") is identity.find(NOBODY) is None


def test_a_second_invitation_is_the_same_person_s(identity: IdentityProvider) -> None:
    first, second = identity.invite(ADA), identity.invite("ADA@example.org")
    assert first.account == second.account


def test_who_set_a_password_is_in_and_keeps_it_when_invited_again(backend: Backend, identity: IdentityProvider) -> None:
    invited = identity.invite(ADA)
    backend.set_password(invited)
    active = replace(invited.account, status=AccountStatus.ACTIVE)
    assert identity.find(ADA) == active
    assert identity.invite(ADA).account == active
    assert identity.find(ADA) == active


def test_who_is_disabled_is_so_until_enabled(backend: Backend, identity: IdentityProvider) -> None:
    invited = identity.invite(ADA)
    backend.set_password(invited)
    subject = invited.account.subject
    for _ in range(2):
        identity.disable(subject)
        assert identity.find(ADA) == replace(invited.account, status=AccountStatus.DISABLED)
    for _ in range(2):
        identity.enable(subject)
        assert identity.find(ADA) == replace(invited.account, status=AccountStatus.ACTIVE)
    identity.reset_second_factor(subject)


def test_who_is_removed_is_gone_and_the_address_is_somebody_else_s(identity: IdentityProvider) -> None:
    subject = identity.invite(ADA).account.subject
    assert identity.remove(subject)
    assert not identity.remove(subject)
    assert identity.find(ADA) is identity.find(subject) is None
    assert identity.invite(ADA).account.subject != subject


def test_nobody_cannot_be_changed(identity: IdentityProvider) -> None:
    for subject in (NOBODY, "x" * 300, "a b", ""):
        for change in (identity.disable, identity.enable, identity.reset_second_factor):
            with pytest.raises(NotFound):
                change(subject)
        assert not identity.remove(subject)


@pytest.mark.parametrize(
    "email", ["", "ada", "@example.org", "ada@", "a da@example.org", "ada@example.org\n\nx", "a" * 260 + "@x"]
)
def test_what_is_no_address_is_invalid_and_nobody_s(identity: IdentityProvider, email: str) -> None:
    with pytest.raises(Invalid):
        identity.invite(email)
    assert identity.find(email) is None


def test_its_people_have_one_issuer(backend: Backend, identity: IdentityProvider) -> None:
    assert identity.issuer == backend.identity().issuer != ""
