"""Who left one topic gets all other mail; what a person took back brings back nobody else's reason; forgetting finds it all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Invalid
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.ids import Key
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.services.suppression import TenantSuppressions
from tests.fakes.clock import START, ManualClock

ANNA, BEN, CARA = (Key(bytes([number]) * 12) for number in range(3))


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, ManualClock())


@pytest.fixture
def ledger(tables: SqliteTables) -> SuppressionList:
    return SuppressionList(tables, ManualClock())


def leave(
    ledger: SuppressionList, key: Key, topic: str | None = None, reason: SuppressionReason = SuppressionReason.UNSUBSCRIBE
) -> bool:
    return ledger.add("default", key, address="a@a.example", reason=reason, note="n", topic=topic)


def topics(ledger: SuppressionList, key: Key) -> list[str | None]:
    return [entry.topic for entry in ledger.entries_for("default", key)]


def test_who_left_a_topic_gets_no_mail_of_it_and_all_other_mail(ledger: SuppressionList) -> None:
    leave(ledger, ANNA, "offers")
    leave(ledger, BEN)
    keys = [ANNA, BEN, CARA]
    assert ledger.suppressed("default", keys, topic="offers") == {ANNA, BEN}
    assert ledger.suppressed("default", keys, topic="news") == {BEN}
    assert ledger.suppressed("default", keys) == {BEN}
    asked = [(ANNA, "news"), (ANNA, "offers"), (ANNA, None), (BEN, "news"), (CARA, "offers")]
    assert ledger.refused("default", asked) == [False, True, False, True, False]
    assert ledger.refused("other", asked) == [False] * 5


def test_a_topic_that_begins_like_another_is_another(ledger: SuppressionList) -> None:
    leave(ledger, ANNA, "offers/may")
    assert ledger.suppressed("default", [ANNA], topic="offers") == set()
    assert ledger.get("default", ANNA, topic="offers/may") == SuppressionEntry(
        ANNA, "a@a.example", SuppressionReason.UNSUBSCRIBE, START, "n", "offers/may"
    )


def test_what_a_person_takes_back_leaves_what_stood_there_before(ledger: SuppressionList) -> None:
    leave(ledger, ANNA, reason=SuppressionReason.BOUNCE)
    leave(ledger, ANNA)
    assert ledger.take_back("default", ANNA)
    found = ledger.get("default", ANNA)
    assert found is not None
    assert found.reason is SuppressionReason.BOUNCE
    assert not ledger.take_back("default", ANNA)


@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINT, SuppressionReason.MANUAL, SuppressionReason.BOUNCE])
def test_a_person_takes_back_only_their_unsubscribing(ledger: SuppressionList, reason: SuppressionReason) -> None:
    leave(ledger, ANNA, reason=reason)
    assert not ledger.take_back("default", ANNA)
    assert topics(ledger, ANNA) == [None]


def test_taking_back_a_topic_leaves_the_others(ledger: SuppressionList) -> None:
    for topic in ("news", "offers", None):
        leave(ledger, ANNA, topic)
    assert ledger.take_back("default", ANNA, topic="news")
    assert topics(ledger, ANNA) == [None, "offers"]
    assert ledger.take_back("default", ANNA)
    assert topics(ledger, ANNA) == ["offers"]


def test_whoever_is_taken_off_the_list_is_taken_off_every_topic(ledger: SuppressionList) -> None:
    for number in range(250):
        leave(ledger, ANNA, f"t{number:03}")
    leave(ledger, BEN, "offers")
    assert ledger.remove("default", ANNA, topic="t001")
    assert len(topics(ledger, ANNA)) == 249
    assert ledger.remove("default", ANNA)
    assert topics(ledger, ANNA) == []
    assert not ledger.remove("default", ANNA)
    assert topics(ledger, BEN) == ["offers"]


def test_forgetting_a_person_forgets_their_address_in_every_entry_and_keeps_their_will(ledger: SuppressionList) -> None:
    leave(ledger, ANNA, reason=SuppressionReason.BOUNCE)
    leave(ledger, ANNA)
    leave(ledger, ANNA, "offers")
    leave(ledger, BEN, "offers")
    assert ledger.forget_address("default", ANNA)
    assert ledger.forget_address("default", ANNA)
    assert {(entry.address, entry.note) for entry in ledger.entries_for("default", ANNA)} == {("", "")}
    assert ledger.suppressed("default", [ANNA, BEN], topic="offers") == {ANNA, BEN}
    assert ledger.entries_for("default", BEN)[0].address == "a@a.example"
    assert not ledger.forget_address("default", CARA)
    assert ledger.take_back("default", ANNA)
    assert ledger.entries_for("default", ANNA)[0].address == ""  # the bounce that stood there before is forgotten too


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_the_list_has_every_entry_once(ledger: SuppressionList, limit: int) -> None:
    leave(ledger, ANNA)
    for number in range(5):
        leave(ledger, ANNA, f"t{number}")
        leave(ledger, Key(bytes([number + 1]) * 12))
    seen: list[tuple[Key, str | None]] = []
    cursor: str | None = None
    while True:
        page = ledger.list("default", cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        seen += [(entry.key, entry.topic) for entry in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 11


def test_topics_are_exported_and_come_back(tables: SqliteTables) -> None:
    clock = ManualClock()
    suppressions = TenantSuppressions(SuppressionList(tables, clock), Tenants(tables, clock), clock, tenant="default")
    suppressions.add("one@a.example", reason=SuppressionReason.UNSUBSCRIBE, topic="offers, and more")
    suppressions.add("two@a.example", reason=SuppressionReason.BOUNCE)
    before = list(suppressions.entries())
    exported = "".join(suppressions.export_csv())
    for entry in before:
        suppressions.remove(entry.address)
    assert suppressions.import_csv(io.BytesIO(exported.encode())).added == 2
    assert list(suppressions.entries()) == before


def test_a_topic_that_no_link_could_carry_is_refused(tables: SqliteTables) -> None:
    clock = ManualClock()
    suppressions = TenantSuppressions(SuppressionList(tables, clock), Tenants(tables, clock), clock, tenant="default")
    with pytest.raises(Invalid, match="longer than 64 bytes"):
        suppressions.add("one@a.example", topic="é" * 33)
