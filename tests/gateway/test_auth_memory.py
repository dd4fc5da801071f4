"""What is remembered of callers: a call costs no look-up while it is fresh, and what was revoked stops within seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.errors import Denied, Unauthenticated, Unavailable
from postroom.gateway.auth import KNOWN_S, REMEMBERED, TokenAuthenticator
from postroom.model import access
from postroom.model.access import ApiKey, Membership, Principal, PrincipalKind, Role
from postroom.platform.ports.tables import Tables
from tests.fakes.clock import START
from tests.fakes.faults import Faults
from tests.gateway.token_kit import ISSUER, Gate, open_gate

SECRET = bytes(range(20))
KEY = access.compose_key("k" * 16, SECRET)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with open_gate(tmp_path) as made:
        yield made


def made_key(gate: Gate, *, scopes: frozenset[str] | None = None, days: float | None = None) -> ApiKey:
    until = None if days is None else Instant(round(START + days * 86_400_000))
    return gate.keys.create(ApiKey("k" * 16, "acme", "shop", Role.SENDER, access.key_digest(KEY), START, "ann", scopes, until))


def use_tables(gate: Gate, tables: Tables) -> None:
    """Gives other tables to the very stores that the authenticator holds."""
    for store in (gate.members, gate.keys):
        store._tables = store._records._tables = tables
    gate.tenants._tables = tables


def counted(gate: Gate) -> Faults:
    """Counts what the gate's stores are asked from now on."""
    faults = Faults()
    tables: Tables = faults.wrap(gate.tables)
    use_tables(gate, tables)
    return faults


def test_a_key_says_who_calls(gate: Gate) -> None:
    made_key(gate, scopes=frozenset({"messages"}))
    assert gate.who(KEY) == Principal(PrincipalKind.KEY, "k" * 16, "shop", "acme", Role.SENDER, scopes=frozenset({"messages"}))


def test_a_key_with_another_secret_is_refused(gate: Gate) -> None:
    made_key(gate)
    with pytest.raises(Unauthenticated, match="not valid here, or no longer"):
        gate.who(access.compose_key("k" * 16, bytes(20)))


def test_a_mistyped_key_costs_no_look_up(gate: Gate) -> None:
    made_key(gate)
    asked = counted(gate)
    with pytest.raises(Unauthenticated):
        gate.who(KEY[:-1] + ("a" if KEY[-1] != "a" else "b"))
    assert asked.calls == []


@pytest.mark.parametrize("by", ["key", "token"])
def test_who_is_known_is_not_looked_up_again_while_it_is_fresh(gate: Gate, by: str) -> None:
    made_key(gate)
    credential = KEY if by == "key" else gate.issuer.token()
    first = gate.who(credential)
    asked = counted(gate)
    assert [gate.who(credential) for _ in range(20)] == [first] * 20
    assert asked.calls == []
    gate.clock.advance(KNOWN_S)
    assert gate.who(credential) == first
    assert asked.calls != []


def test_a_revoked_membership_stops_within_seconds(gate: Gate) -> None:
    token = gate.issuer.token()
    gate.who(token)
    gate.members.revoke(ISSUER, "ann")
    gate.clock.advance(KNOWN_S)
    with pytest.raises(Denied):
        gate.who(token)


def test_a_lesser_role_counts_within_seconds(gate: Gate) -> None:
    token = gate.issuer.token()
    gate.who(token)
    gate.members.grant(Membership(ISSUER, "ann", "acme", Role.VIEWER, "ann"))
    gate.clock.advance(KNOWN_S)
    assert gate.who(token).role is Role.VIEWER


def test_a_revoked_key_stops_within_seconds(gate: Gate) -> None:
    made_key(gate)
    gate.who(KEY)
    gate.keys.revoke("acme", "k" * 16)
    gate.clock.advance(KNOWN_S)
    with pytest.raises(Unauthenticated):
        gate.who(KEY)


def test_a_disabled_tenant_is_denied_within_seconds(gate: Gate) -> None:
    made_key(gate)
    credentials = [KEY, gate.issuer.token()]
    before = [gate.who(credential) for credential in credentials]
    gate.tenants.disable("acme")
    gate.clock.advance(KNOWN_S)
    for credential in credentials:
        with pytest.raises(Denied, match="acme is disabled"):
            gate.who(credential)
    gate.tenants.enable("acme")
    assert [gate.who(credential) for credential in credentials] == before


def test_a_key_stops_at_its_very_end(gate: Gate) -> None:
    made_key(gate, days=1)
    gate.clock.advance(86_400 - 1)
    gate.who(KEY)
    gate.clock.advance(1)
    with pytest.raises(Unauthenticated):
        gate.who(KEY)


def test_a_token_stops_at_its_very_end_also_when_it_is_remembered(gate: Gate) -> None:
    token = gate.issuer.token(exp=gate.clock.now() // 1_000 + 10)
    gate.clock.advance(39)
    gate.who(token)
    gate.clock.advance(0.9)
    gate.who(token)
    gate.clock.advance(0.2)
    with pytest.raises(Unauthenticated):
        gate.who(token)


def test_a_token_is_over_also_when_only_the_wall_clock_says_so(gate: Gate) -> None:
    """Such as after a virtual machine was suspended and its time corrected: the steady clock has not moved."""
    token = gate.issuer.token()
    first = gate.who(token)
    gate.clock._start += 631_000
    gate.authenticator._known.put(hashlib.sha256(token.encode()).digest(), first, seconds=0)
    with pytest.raises(Unauthenticated):
        gate.who(token)


def test_a_token_is_verified_anew_every_half_minute(gate: Gate) -> None:
    """So a key that the issuer withdrew stops as soon as that is known here."""
    token = gate.issuer.token()
    gate.who(token)
    gate.issuer.keys = gate.issuer.keys[1:]
    gate.clock.advance(601)
    gate.who(gate.issuer.token(key=gate.issuer.keys[0], exp=gate.clock.now() // 1_000 + 60))
    with pytest.raises(Unauthenticated):
        gate.who(token)


def test_a_store_that_is_down_is_no_refusal(gate: Gate) -> None:
    def fail() -> None:
        raise Unavailable("the store is down")

    token = gate.issuer.token()
    tables: Tables = Faults(1, happens=fail).wrap(gate.tables)
    gate.members._tables = gate.members._records._tables = tables
    with pytest.raises(Unavailable):
        gate.who(token)
    assert gate.who(token).id == "ann"


def test_a_key_is_good_although_its_use_cannot_be_noted(gate: Gate) -> None:
    def fail() -> None:
        raise Unavailable("the disk is slow")

    made_key(gate)
    tables: Tables = Faults(2, happens=fail).wrap(gate.tables)
    gate.keys._tables = gate.keys._records._tables = tables
    assert gate.who(KEY).name == "shop"
    assert gate.keys.get("acme", "k" * 16).last_used_at is None


def test_no_number_of_callers_fills_the_memory(gate: Gate) -> None:
    authenticator: TokenAuthenticator = gate.authenticator
    first = gate.who(gate.issuer.token())
    for number in range(REMEMBERED + 10):
        authenticator._known.put(number.to_bytes(32, "big"), first, seconds=KNOWN_S)
    assert len(authenticator._known._entries) == REMEMBERED


def test_neither_log_nor_memory_holds_a_credential(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    made_key(gate)
    wrong, token = access.compose_key("k" * 16, bytes(20)), gate.issuer.token()
    gate.who(KEY)
    gate.who(token)
    with caplog.at_level("DEBUG"), pytest.raises(Unauthenticated):
        gate.who(wrong)
    assert 'auth.credentials_refused reason="no such key"' in caplog.text
    held = repr(gate.authenticator._known._entries) + repr(gate.authenticator._verified._entries) + caplog.text
    assert not any(secret in held for secret in (KEY, token, wrong))
