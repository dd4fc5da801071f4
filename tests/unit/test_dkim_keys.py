"""DKIM keys: a key signs once its record was seen, is replaced without a gap, and is nobody else's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.delivery.dkim import MailSigner
from postroom.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from postroom.ledger.dkim import DkimKeys, keys_for_domain
from postroom.model.dkim import MAX_KEYS, SELECTOR, Algorithm, DkimKey, KeyStatus, record_mismatch, record_name
from postroom.model.finding import Level
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import ItemKey, Put
from postroom.services.dkim import DkimService
from postroom.services.doctor import check_dkim_keys
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets

DOMAIN = "shop.example"
FROM = "News <news@shop.example>"
MESSAGE = b"From: news@shop.example\r\nTo: b@other.example\r\n\r\nHello\r\n"


class Dns:
    """Texts by name; None: it does not answer."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] | None = {}

    def txt(self, name: str) -> list[str]:
        if self.texts is None:
            raise Unavailable("the DNS gave no answer")
        return self.texts.get(name, [])


class Desk:
    def __init__(self, tables: SqliteTables, clock: ManualClock) -> None:
        self.tables, self.clock, self.dns = tables, clock, Dns()
        self.ledger = DkimKeys(tables, PlainSecrets())
        self.service = DkimService(self.ledger, self.dns, clock)

    def publish(self, key: DkimKey, domain: str = DOMAIN) -> None:
        assert self.dns.texts is not None
        self.dns.texts[record_name(key.selector, domain)] = [key.record]

    def active(self, *, ed25519: bool = False, tenant: str = "acme", domain: str = DOMAIN) -> list[DkimKey]:
        """Made, published, verified."""
        made = self.service.make(tenant, domain, self.service.new_stem(), ed25519=ed25519)
        for key in made:
            self.publish(key, domain)
            assert self.service.verify(tenant, domain, key.selector).status is KeyStatus.ACTIVE
        return made

    def signs(self, from_: str = FROM, tenant: str = "acme") -> list[str]:
        """The selectors that its mail is signed with."""
        return selectors(MailSigner(self.ledger, tenant, from_).sign(MESSAGE, self.clock.now()))

    def states(self) -> list[str]:
        return [key.status.value for key in self.service.keys("acme", DOMAIN).keys]


def selectors(content: bytes) -> list[str]:
    return [found.decode() for found in re.findall(rb"\bs=([a-z0-9-]+);", content)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield Desk(SqliteTables(control, clock), clock)


# Making and verifying.


def test_a_new_key_signs_nothing_until_its_record_was_seen(desk: Desk) -> None:
    (key,) = desk.service.add("acme", "Shop.Example.", ed25519=False)
    assert re.fullmatch(SELECTOR, key.selector)
    assert desk.signs() == []
    found = desk.service.verify("acme", DOMAIN, key.selector)
    assert (found.status, "no TXT record" in found.finding) == (KeyStatus.WAITING, True)
    desk.publish(key)
    found = desk.service.verify("acme", DOMAIN, key.selector)
    assert (found.status, found.finding, found.active_at) == (KeyStatus.ACTIVE, "", desk.clock.now())
    assert desk.signs() == [key.selector]


def test_a_silent_name_server_is_no_verdict(desk: Desk) -> None:
    (key,) = desk.active()
    desk.dns.texts = None
    found = desk.service.verify("acme", DOMAIN, key.selector)
    assert (found.status, "try again" in found.finding) == (KeyStatus.ACTIVE, True)


def test_a_record_that_is_taken_away_stops_no_mail(desk: Desk) -> None:
    (key,) = desk.active()
    desk.dns.texts = {}
    assert desk.service.verify("acme", DOMAIN, key.selector).finding
    assert desk.signs() == [key.selector]


def test_an_operators_word_is_enough_and_kept_until_the_dns_says_it(desk: Desk) -> None:
    (key,) = desk.service.add("acme", DOMAIN, ed25519=False)
    assert desk.service.trust("acme", DOMAIN, key.selector).unchecked
    assert desk.signs() == [key.selector]
    assert desk.service.verify("acme", DOMAIN, key.selector).unchecked
    desk.publish(key)
    assert not desk.service.verify("acme", DOMAIN, key.selector).unchecked


def test_made_again_under_the_same_stem_they_are_the_same(desk: Desk) -> None:
    stem = desk.service.new_stem()
    first = desk.service.make("acme", DOMAIN, stem, ed25519=True)
    assert desk.service.make("acme", DOMAIN, stem, ed25519=True) == first
    assert len(desk.service.keys("acme", DOMAIN).keys) == 2


def test_a_second_first_key_is_refused(desk: Desk) -> None:
    desk.service.add("acme", DOMAIN, ed25519=False)
    with pytest.raises(Conflict, match="rotate"):
        desk.service.add("acme", DOMAIN, ed25519=True)


def test_there_are_so_many_at_most(desk: Desk) -> None:
    for _ in range(MAX_KEYS // 2):
        desk.service.make("acme", DOMAIN, desk.service.new_stem(), ed25519=True)
    with pytest.raises(Conflict, match="at most"):
        desk.service.make("acme", DOMAIN, desk.service.new_stem(), ed25519=False)


def test_a_domain_whose_record_would_have_too_long_a_name_is_refused(desk: Desk) -> None:
    with pytest.raises(Invalid, match="too long"):
        desk.service.add("acme", ".".join(["a" * 60] * 4), ed25519=False)


def test_a_change_under_another_is_refused(desk: Desk) -> None:
    (key,) = desk.service.add("acme", DOMAIN, ed25519=False)
    was = desk.ledger.get("acme", DOMAIN)
    desk.service.trust("acme", DOMAIN, key.selector)
    with pytest.raises(Conflict):
        desk.ledger.change(was, ())
    with pytest.raises(Conflict):
        desk.ledger.change(was, was.keys)


# Replacing and removing.


def test_the_old_key_signs_until_the_new_one_is_verified_and_stays_published(desk: Desk) -> None:
    old = desk.active(ed25519=True)
    new = desk.service.rotate("acme", DOMAIN)
    assert [key.algorithm for key in new] == [Algorithm.RSA, Algorithm.ED25519]
    assert desk.signs() == [key.selector for key in old]
    desk.publish(new[0])
    desk.service.verify("acme", DOMAIN, new[0].selector)
    assert desk.signs() == [new[0].selector, old[1].selector]
    assert desk.states() == ["retired", "active", "active", "waiting"]


def test_a_retired_key_stays_retired(desk: Desk) -> None:
    (old,) = desk.active()
    desk.active()
    assert desk.service.verify("acme", DOMAIN, old.selector).status is KeyStatus.RETIRED
    assert desk.service.trust("acme", DOMAIN, old.selector).status is KeyStatus.RETIRED


def test_there_must_be_a_key_to_replace(desk: Desk) -> None:
    with pytest.raises(NotFound, match="dkim add"):
        desk.service.rotate("acme", DOMAIN)


def test_a_removed_key_is_gone_for_good(desk: Desk) -> None:
    old, new = desk.active() + desk.active()
    desk.service.remove("acme", DOMAIN, old.selector)
    assert desk.signs() == [new.selector]
    desk.service.remove("acme", DOMAIN, new.selector)
    assert (desk.signs(), list(keys_for_domain(desk.tables, DOMAIN))) == ([], [])
    with pytest.raises(NotFound):
        desk.service.remove("acme", DOMAIN, new.selector)
    (again,) = desk.active()
    assert desk.signs() == [again.selector]


# Whose mail is signed.


def test_the_nearest_domain_with_a_key_signs(desk: Desk) -> None:
    (parent,) = desk.active()
    assert desk.signs("a@mail.shop.example") == [parent.selector]
    (own,) = desk.active(domain="mail.shop.example")
    assert desk.signs("a@mail.shop.example") == [own.selector]
    assert desk.signs("a@otherSHOP.example") == []
    assert desk.signs("a@shop.EXAMPLE") == [parent.selector]


def test_another_tenants_key_signs_nothing_of_ours(desk: Desk) -> None:
    (theirs,) = desk.active(tenant="other")
    assert (desk.signs(), desk.signs(tenant="other")) == ([], [theirs.selector])
    with pytest.raises(NotFound):
        desk.service.verify("acme", DOMAIN, theirs.selector)


def test_a_key_moved_into_anothers_place_opens_nothing(desk: Desk) -> None:
    desk.active(tenant="other")
    item = desk.tables.get(ItemKey("other#dkim", DOMAIN))
    assert item is not None
    desk.tables.write([Put(ItemKey("acme#dkim", DOMAIN), item.data)])
    signing = MailSigner(desk.ledger, "acme", FROM)
    with pytest.raises(Corrupt, match=r"shop\.example cannot be signed"):
        signing.check()
    with pytest.raises(Unavailable):
        signing.sign(MESSAGE, desk.clock.now())


def test_a_key_that_appears_and_cannot_be_opened_lets_nothing_leave_unsigned(desk: Desk) -> None:
    signing, now = MailSigner(desk.ledger, "acme", FROM), desk.clock.now()
    assert signing.sign(MESSAGE, now) == MESSAGE
    (key,) = desk.active()
    item = desk.tables.get(ItemKey("acme#dkim", DOMAIN))
    assert item is not None
    desk.tables.write([Put(ItemKey("acme#dkim", DOMAIN), {"keys": [{**item.data["keys"][0], "sealed": "of another key"}]})])
    for later in (60_000, 60_001):
        with pytest.raises(Unavailable):
            signing.sign(MESSAGE, Instant(now + later))
    desk.tables.write([Put(ItemKey("acme#dkim", DOMAIN), item.data)])
    assert selectors(signing.sign(MESSAGE, Instant(now + 120_000))) == [key.selector]


def test_a_store_that_is_busy_changes_nothing(desk: Desk) -> None:
    """Least of all for those who have no key."""
    signing, now = MailSigner(desk.ledger, "acme", FROM), desk.clock.now()
    signing.sign(MESSAGE, now)

    def busy(keys: object) -> None:
        raise Unavailable("busy")

    desk.tables.get_many = busy  # type: ignore[method-assign, assignment]  # a fault
    assert signing.sign(MESSAGE, Instant(now + 60_000)) == MESSAGE


def test_a_change_is_used_within_a_minute_by_what_is_being_sent(desk: Desk) -> None:
    signing = MailSigner(desk.ledger, "acme", FROM)
    now = desk.clock.now()
    assert signing.sign(MESSAGE, now) == MESSAGE
    (key,) = desk.active()
    assert signing.sign(MESSAGE, Instant(now + 59_000)) == MESSAGE
    assert selectors(signing.sign(MESSAGE, Instant(now + 60_000))) == [key.selector]


def test_a_key_that_cannot_be_opened_later_is_used_on(desk: Desk) -> None:
    (key,) = desk.active()
    signing = MailSigner(desk.ledger, "acme", FROM)
    signing.sign(MESSAGE, desk.clock.now())
    desk.tables.write([Put(ItemKey("acme#dkim", DOMAIN), {"keys": [{"selector": "x"}]})])
    assert selectors(signing.sign(MESSAGE, Instant(desk.clock.now() + 600_000))) == [key.selector]


# What the DNS says.


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{record}", ""),
        ("k=rsa;p={public}", ""),
        ("p={spaced}", ""),
        ("v=DKIM1; h=sha1:sha256; s=email; p={public}; t=s", ""),
        ("v=spf1 -all", "no DKIM key"),
        ("v=DKIM2; p={public}", "no DKIM key"),
        ("v=DKIM1; p=", "revoked"),
        ("v=DKIM1; k=ed25519; p={public}", "another key"),
        ("v=DKIM1; k=rsa; p=AAAA", "another key"),
        ("v=DKIM1; k=rsa; p=***", "another key"),
        ("v=DKIM1; h=sha1; p={public}", "restricts"),
        ("v=DKIM1; s=tlsrpt; p={public}", "restricts"),
    ],
)
def test_a_record_is_held_against_the_key(desk: Desk, text: str, why: str) -> None:
    (key,) = desk.service.add("acme", DOMAIN, ed25519=False)
    spaced = " ".join(key.public[at : at + 100] for at in range(0, len(key.public), 100))
    found = record_mismatch(key, "n", [text.format(record=key.record, public=key.public, spaced=spaced)])
    assert (why in found, bool(found)) == (True, bool(why))


def test_two_records_are_one_too_many(desk: Desk) -> None:
    (key,) = desk.service.add("acme", DOMAIN, ed25519=False)
    assert "2 TXT records" in record_mismatch(key, "n", [key.record, key.record])


def test_a_record_is_shown_in_strings_that_fit(desk: Desk) -> None:
    (key,) = desk.service.add("acme", DOMAIN, ed25519=False)
    strings = re.findall(r'"([^"]*)"', key.record_strings)
    assert ("".join(strings), max(map(len, strings))) == (key.record, 255)


def test_the_doctor_holds_every_key_against_its_record(desk: Desk) -> None:
    gone, kept = desk.active(ed25519=True)
    (waiting,) = desk.service.make("acme", DOMAIN, desk.service.new_stem(), ed25519=False)
    assert desk.dns.texts is not None
    del desk.dns.texts[record_name(gone.selector, DOMAIN)]
    found = {finding.subject: finding for finding in check_dkim_keys(keys_for_domain(desk.tables, DOMAIN), desk.ledger, desk.dns)}
    levels = {subject.split()[2]: finding.level for subject, finding in found.items()}
    assert levels == {gone.selector: Level.FAIL, kept.selector: Level.OK, waiting.selector: Level.WARN}
    desk.dns.texts = None
    assert {finding.level for finding in check_dkim_keys(keys_for_domain(desk.tables, DOMAIN), desk.ledger, desk.dns)} == {
        Level.SKIPPED
    }


def test_the_doctor_is_content_with_a_retired_key_that_is_gone(desk: Desk) -> None:
    (old,) = desk.active()
    desk.active()
    assert desk.dns.texts is not None
    del desk.dns.texts[record_name(old.selector, DOMAIN)]
    assert {finding.level for finding in check_dkim_keys(keys_for_domain(desk.tables, DOMAIN), desk.ledger, desk.dns)} == {
        Level.OK
    }


def test_no_key_of_another_domain_is_examined(desk: Desk) -> None:
    desk.active(domain="shop.example.net")
    desk.active(domain="mail.shop.example")
    assert list(keys_for_domain(desk.tables, DOMAIN)) == []
    assert [keys.domain for keys in keys_for_domain(desk.tables, None)] == ["mail.shop.example", "shop.example.net"]


def test_a_key_is_not_shown(desk: Desk) -> None:
    desk.active()
    found = desk.ledger.signing("acme", [DOMAIN])
    assert found is not None
    assert repr(found[1][0].private) not in repr(found)
    assert replace(desk.ledger.get("acme", DOMAIN), version=0).keys[0].public
