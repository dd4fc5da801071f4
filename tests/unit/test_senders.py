"""A tenant sends only as what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from postroom.ledger.senders import Senders
from postroom.model.sender import covering, sender_name
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.services.senders import SenderService
from tests.fakes.clock import ManualClock


class Dns:
    """Texts by name; None: it does not answer."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] | None = {}

    def txt(self, name: str) -> list[str]:
        if self.texts is None:
            raise Unavailable("the DNS gave no answer")
        return self.texts.get(name, [])


class Desk:
    def __init__(self, senders: Senders, dns: Dns, clock: ManualClock) -> None:
        self.ledger = senders
        self.dns = dns
        self.service = SenderService(senders, dns, clock)

    def verified(self, name: str, tenant: str = "acme") -> None:
        identity = self.service.add(tenant, name)
        assert self.dns.texts is not None
        self.dns.texts[identity.record_name] = ["v=spf1 -all", identity.record_value]
        assert self.service.verify(tenant, name).verified_at


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield Desk(Senders(SqliteTables(control, clock), clock), Dns(), clock)


def test_an_unknown_sender_is_denied_with_what_to_do(desk: Desk) -> None:
    with pytest.raises(Denied, match=r"postroom sender trust news@shop\.example --tenant acme"):
        desk.ledger.check("acme", "News <news@shop.example>")


def test_entering_a_sender_verifies_nothing(desk: Desk) -> None:
    desk.service.add("acme", "shop.example")
    with pytest.raises(Denied, match="waiting to be verified"):
        desk.ledger.check("acme", "news@shop.example")


@pytest.mark.parametrize(
    "from_", ["news@shop.example", "NEWS@Shop.Example", "N <a@mail.shop.example>", '"a, b" <c@x.y.shop.example>']
)
def test_a_verified_domain_covers_its_addresses_and_what_is_below_it(desk: Desk, from_: str) -> None:
    desk.verified("Shop.Example")
    desk.ledger.check("acme", from_)


@pytest.mark.parametrize("from_", ["a@notshop.example", "a@example", "a@shop.example.org", "shop.example@evil.org"])
def test_and_nothing_else(desk: Desk, from_: str) -> None:
    desk.verified("shop.example")
    with pytest.raises((Denied, Invalid)):
        desk.ledger.check("acme", from_)


def test_a_verified_address_covers_only_itself(desk: Desk) -> None:
    desk.verified("news@shop.example")
    desk.ledger.check("acme", "News <News@shop.example>")
    with pytest.raises(Denied):
        desk.ledger.check("acme", "boss@shop.example")


def test_another_tenants_domain_is_nobody_elses(desk: Desk) -> None:
    desk.verified("shop.example", tenant="other")
    with pytest.raises(Denied):
        desk.ledger.check("acme", "news@shop.example")


def test_another_tenants_record_verifies_nothing(desk: Desk) -> None:
    desk.verified("shop.example", tenant="other")
    desk.service.add("acme", "shop.example")
    found = desk.service.verify("acme", "shop.example")
    assert found.verified_at is None
    assert "none of them" in found.finding


def test_no_record_is_said(desk: Desk) -> None:
    desk.service.add("acme", "shop.example")
    assert "no TXT record yet" in desk.service.verify("acme", "shop.example").finding


def test_a_dns_that_does_not_answer_changes_nothing(desk: Desk) -> None:
    desk.verified("shop.example")
    desk.dns.texts = None
    assert "try again" in desk.service.verify("acme", "shop.example").finding
    desk.ledger.check("acme", "a@shop.example")


def test_a_name_server_that_is_silent_holds_one_thread_of_a_tenant(desk: Desk) -> None:
    asked: list[str] = []

    def slow(name: str) -> list[str]:
        with pytest.raises(Conflict):
            desk.service.verify("acme", "shop.example")
        desk.service.add("other", "shop.example")
        if not asked:
            asked.append(name)
            desk.service.verify("other", "shop.example")
        return []

    desk.service.add("acme", "shop.example")
    desk.dns.txt = slow  # type: ignore[method-assign]
    desk.service.verify("acme", "shop.example")
    assert asked


def test_a_record_taken_away_later_stops_nothing(desk: Desk) -> None:
    desk.verified("shop.example")
    desk.dns.texts = {}
    assert desk.service.verify("acme", "shop.example").finding
    desk.ledger.check("acme", "a@shop.example")


def test_an_operator_may_trust_a_sender(desk: Desk) -> None:
    assert desk.service.trust("acme", "news@shop.example", operator="op").trusted_by == "op"
    desk.ledger.check("acme", "news@shop.example")
    assert desk.ledger.first_address("acme") == "news@shop.example"


def test_entering_again_keeps_the_token(desk: Desk) -> None:
    assert desk.service.add("acme", "shop.example").token == desk.service.add("acme", "SHOP.example.").token


def test_a_removed_sender_is_denied(desk: Desk) -> None:
    desk.verified("shop.example")
    desk.service.remove("acme", "shop.example")
    with pytest.raises(Denied):
        desk.ledger.check("acme", "a@shop.example")
    with pytest.raises(NotFound):
        desk.service.remove("acme", "shop.example")


@pytest.mark.parametrize(
    "text", ["", "com", "shop", "-x.example", "a b.example", "x..example", "@shop.example", "a@", "a@b@c", "1.2.3.4"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        sender_name(text)


def test_international_domains_have_one_name() -> None:
    assert sender_name("bücher.example") == sender_name("xn--bcher-kva.example") == "xn--bcher-kva.example"


def test_the_narrowest_name_comes_first() -> None:
    assert covering("A <a@x.shop.example>") == ["a@x.shop.example", "x.shop.example", "shop.example"]
