"""The audit trail: sealed each minute, and any later change of it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from postroom.errors import Conflict
from postroom.ledger.audit import AuditLog
from postroom.model.audit import AuditRecord
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Delete, ItemKey, Put, Tables
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets

MINUTE_S = 60


class Trail:
    """One tenant's, with its clock."""

    def __init__(self, tables: Tables, clock: ManualClock) -> None:
        self.tables = tables
        self.clock = clock
        self.log = AuditLog(tables, PlainSecrets(), clock)

    def write(self, action: str = "POST /v1/things", tenant: str = "acme") -> AuditRecord:
        entry = AuditRecord(id=self.log.new_id(), actor="user:1", address="192.0.2.1", action=action)
        self.log.write(tenant, entry)
        return entry

    def minutes_pass(self, minutes: int) -> None:
        self.clock.advance(minutes * MINUTE_S)


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[Trail]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield Trail(SqliteTables(control, clock), clock)


def three_sealed_minutes(trail: Trail) -> list[AuditRecord]:
    entries = []
    for _ in range(3):
        entries += [trail.write(), trail.write()]
        trail.minutes_pass(1)
    trail.minutes_pass(5)
    assert trail.log.seal() == 3
    return entries


def test_an_honest_trail_has_no_problems(trail: Trail) -> None:
    three_sealed_minutes(trail)
    trail.write()
    found = trail.log.verify("acme")
    assert (found.problems, found.seals, found.entries, found.unsealed) == ([], 3, 6, 1)


def test_a_minute_is_not_sealed_while_an_entry_of_it_may_be_completed(trail: Trail) -> None:
    entry = trail.write()
    trail.minutes_pass(1)
    assert trail.log.seal() == 0
    trail.log.write("acme", replace(entry, status=201))
    assert trail.log.list("acme").items[0].status == 201


def test_what_may_be_sealed_is_not_completed(trail: Trail) -> None:
    entry = trail.write()
    trail.minutes_pass(2)
    with pytest.raises(Conflict):
        trail.log.write("acme", replace(entry, status=201))


def test_sealing_again_changes_nothing(trail: Trail) -> None:
    three_sealed_minutes(trail)
    before = trail.log.verify("acme").head
    assert trail.log.seal() == 0
    assert trail.log.verify("acme").head == before


def test_tenants_have_trails_of_their_own(trail: Trail) -> None:
    trail.write(tenant="acme")
    trail.write(tenant="other")
    trail.minutes_pass(5)
    assert trail.log.seal() == 2
    assert len(trail.log.list("other").items) == 1
    assert trail.log.verify("acme").entries == 1


def changed(trail: Trail, entry: AuditRecord) -> None:
    item = trail.tables.get(ItemKey("acme#audit", entry.id))
    assert item
    trail.tables.write([Put(item.key, {**item.data, "actor": "user:2"})])


def removed(trail: Trail, entry: AuditRecord) -> None:
    trail.tables.write([Delete(ItemKey("acme#audit", entry.id))])


def added(trail: Trail, entry: AuditRecord) -> None:
    item = trail.tables.get(ItemKey("acme#audit", entry.id))
    assert item
    trail.tables.write([Put(ItemKey("acme#audit", entry.id + "x"), item.data)])


def minute_removed(trail: Trail, entry: AuditRecord) -> None:
    for each in trail.log.list("acme", prefix=entry.id[:16]).items:
        removed(trail, each)


def seal_removed(trail: Trail, entry: AuditRecord) -> None:
    trail.tables.write([Delete(ItemKey("acme#audit-seals", entry.id[:16]))])


def minute_and_seal_removed(trail: Trail, entry: AuditRecord) -> None:
    minute_removed(trail, entry)
    seal_removed(trail, entry)


def seal_made_again(trail: Trail, entry: AuditRecord) -> None:
    """By somebody who can write but has no key."""
    changed(trail, entry)
    forger = AuditLog(trail.tables, PlainSecrets(), trail.clock)
    forger._key = b"a guess"
    seal_removed(trail, entry)
    forger._seal("acme", entry.id[:16])


@pytest.mark.parametrize(
    "tamper", [changed, removed, added, minute_removed, seal_removed, minute_and_seal_removed, seal_made_again]
)
@pytest.mark.parametrize("which", [0, 3, 5])
def test_tampering_shows(trail: Trail, tamper: Callable[[Trail, AuditRecord], Any], which: int) -> None:
    entries = three_sealed_minutes(trail)
    tamper(trail, entries[which])
    assert trail.log.verify("acme").problems


def test_a_kill_between_entry_and_end_leaves_an_entry_without_an_end(trail: Trail) -> None:
    trail.write()
    assert trail.log.list("acme").items[0].status is None


def test_a_list_goes_back_in_time_and_can_be_narrowed(trail: Trail) -> None:
    entries = three_sealed_minutes(trail)
    assert [entry.id for entry in trail.log.list("acme").items] == sorted((entry.id for entry in entries), reverse=True)
    assert len(trail.log.list("acme", prefix=entries[0].id[:16]).items) == 2
