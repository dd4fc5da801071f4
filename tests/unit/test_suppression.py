"""The suppression list: found by any spelling of an address, a person's will outranks, what is exported can be imported."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Conflict, Invalid
from postroom.ledger.suppression import SuppressionEntry, SuppressionList, SuppressionReason
from postroom.ledger.tenants import Tenants
from postroom.model.ids import Key
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Expect, ItemKey, Put, Tables, Write
from postroom.services.suppression import Imported, TenantSuppressions
from tests.fakes.clock import START, ManualClock


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, ManualClock())


@pytest.fixture
def ledger(tables: SqliteTables) -> SuppressionList:
    return SuppressionList(tables, ManualClock())


def service(tables: Tables, tenant: str = "default") -> TenantSuppressions:
    clock = ManualClock()
    return TenantSuppressions(SuppressionList(tables, clock), Tenants(tables, clock), clock, tenant=tenant)


@pytest.fixture
def suppressions(tables: SqliteTables) -> TenantSuppressions:
    return service(tables)


def entry(number: int, reason: SuppressionReason = SuppressionReason.MANUAL) -> SuppressionEntry:
    return SuppressionEntry(Key(number.to_bytes(12, "big")), f"p{number}@a.example", reason, START)


def take(suppressions: TenantSuppressions, text: str, reason: SuppressionReason = SuppressionReason.MANUAL) -> Imported:
    return suppressions.import_csv(io.BytesIO(text.encode()), reason=reason)


def addresses(suppressions: TenantSuppressions) -> set[str]:
    return {found.address for found in suppressions.entries()}


def test_suppressed_answers_for_any_number_of_keys(ledger: SuppressionList) -> None:
    ledger.add_all("default", [entry(number) for number in range(0, 2_500, 2)])
    keys = [entry(number).key for number in range(2_500)]
    assert ledger.suppressed("default", keys) == set(keys[::2])
    assert ledger.suppressed("default", []) == set()


def test_a_tenant_has_a_list_of_its_own(ledger: SuppressionList) -> None:
    ledger.add_all("one", [entry(1)])
    assert ledger.suppressed("two", [entry(1).key]) == set()
    assert ledger.list("two").items == []


def test_adding_again_changes_nothing(ledger: SuppressionList) -> None:
    assert ledger.add_all("default", [entry(1), entry(2), entry(1)]) == 2
    assert ledger.add_all("default", [entry(1), entry(3)]) == 1


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (SuppressionReason.MANUAL, SuppressionReason.BOUNCE, SuppressionReason.MANUAL),
        (SuppressionReason.BOUNCE, SuppressionReason.MANUAL, SuppressionReason.BOUNCE),
        (SuppressionReason.BOUNCE, SuppressionReason.UNSUBSCRIBE, SuppressionReason.UNSUBSCRIBE),
        (SuppressionReason.MANUAL, SuppressionReason.COMPLAINT, SuppressionReason.COMPLAINT),
        (SuppressionReason.UNSUBSCRIBE, SuppressionReason.BOUNCE, SuppressionReason.UNSUBSCRIBE),
        (SuppressionReason.UNSUBSCRIBE, SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBE),
    ],
)
def test_a_persons_will_replaces_other_reasons_and_nothing_replaces_it(
    ledger: SuppressionList, first: SuppressionReason, second: SuppressionReason, kept: SuppressionReason
) -> None:
    ledger.add_all("default", [entry(1, first)])
    changed = ledger.add_all("default", [entry(1, second)])
    found = ledger.get("default", entry(1).key)
    assert found is not None
    assert found.reason is kept
    assert changed == (1 if kept is not first else 0)


def test_list_pages_through_everything_once(ledger: SuppressionList) -> None:
    ledger.add_all("default", [entry(number) for number in range(25)])
    seen: list[Key] = []
    cursor: str | None = None
    while True:
        page = ledger.list("default", cursor=cursor, limit=10)
        seen += [found.key for found in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [entry(number).key for number in range(25)]


class RacedTables:
    """Somebody else enters the same person between the look and the write, `times` times."""

    def __init__(self, tables: Tables, times: int) -> None:
        self._tables = tables
        self.times = times

    def __getattr__(self, name: str) -> object:
        return getattr(self._tables, name)

    def write(self, writes: Sequence[Write]) -> list[int]:
        if self.times:
            self.times -= 1
            key = ItemKey("default#suppression", entry(1).key.hex())
            data = {"address": "p1@a.example", "reason": "bounce", "at": START, "note": ""}
            self._tables.write([Put(key, data, Expect.ANYTHING)])
        return self._tables.write(writes)


def test_losing_a_race_looks_again_and_keeps_the_will(tables: SqliteTables) -> None:
    raced = SuppressionList(RacedTables(tables, times=2), ManualClock())  # type: ignore[arg-type]
    assert raced.add_all("default", [entry(1, SuppressionReason.UNSUBSCRIBE), entry(2)]) == 2
    found = raced.get("default", entry(1).key)
    assert found is not None
    assert found.reason is SuppressionReason.UNSUBSCRIBE


def test_losing_every_race_is_an_error_not_a_loss(tables: SqliteTables) -> None:
    raced = SuppressionList(RacedTables(tables, times=1_000), ManualClock())  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="try again"):
        raced.add_all("default", [entry(1, SuppressionReason.UNSUBSCRIBE)])


def test_any_spelling_of_an_address_is_found_and_removed(suppressions: TenantSuppressions) -> None:
    assert suppressions.add("Anna <Anna.Example@Mail.Example>", reason=SuppressionReason.UNSUBSCRIBE, note="asked by phone")
    assert not suppressions.add("anna.example@mail.example")
    found = suppressions.get(" ANNA.example@MAIL.example ")
    assert found is not None
    assert (found.reason, found.note) == (SuppressionReason.UNSUBSCRIBE, "asked by phone")
    assert suppressions.remove("anna.example@mail.example")
    assert not suppressions.remove("anna.example@mail.example")
    assert addresses(suppressions) == set()


@pytest.mark.parametrize("text", ["", "nobody", "a@b@c"])
def test_what_is_no_address_is_refused(suppressions: TenantSuppressions, text: str) -> None:
    with pytest.raises(Invalid):
        suppressions.add(text)


def test_import_takes_good_rows_and_reports_the_others_with_their_line(suppressions: TenantSuppressions) -> None:
    suppressions.add("old@a.example")
    done = take(
        suppressions,
        "Name,E-Mail,Reason\nA,one@a.example,bounce\n\nB,nonsense,\nC,two@a.example,boredom\n"
        "D,old@a.example,\nE,One@A.example,\nF,three@a.example,\n",
        SuppressionReason.COMPLAINT,
    )
    assert (done.rows, done.added, done.already) == (6, 3, 1)  # `one` twice; `old` becomes a complaint
    assert [(line.line, line.text) for line in done.rejected] == [(4, "nonsense"), (5, "two@a.example")]
    assert "boredom" in done.rejected[1].reason
    assert {found.address: found.reason for found in suppressions.entries()} == {
        "old@a.example": SuppressionReason.COMPLAINT,
        "One@a.example": SuppressionReason.COMPLAINT,
        "three@a.example": SuppressionReason.COMPLAINT,
    }


def test_import_again_adds_nothing(suppressions: TenantSuppressions) -> None:
    text = "\ufeffaddress\n" + "".join(f"p{number}@a.example\n" for number in range(350))
    assert take(suppressions, text) == Imported(350, 350, 0, [])
    assert take(suppressions, text) == Imported(350, 0, 350, [])


@pytest.mark.parametrize(
    "text", ["a@a.example\nb@a.example\n", "a@a.example;x\r\nb@a.example;y", "\n\nmail\ta\na@a.example\t1\nb@a.example\t2\n"]
)
def test_files_without_header_and_other_delimiters_are_read(suppressions: TenantSuppressions, text: str) -> None:
    assert take(suppressions, text).added == 2
    assert addresses(suppressions) == {"a@a.example", "b@a.example"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,city\nA,B\n", "no column holds addresses"),
        (b'address\na@a.example\n"b@a.example\n', "line 3 is no CSV"),
        (b"address\nm\xfcller@a.example\n", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused(suppressions: TenantSuppressions, content: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        suppressions.import_csv(io.BytesIO(content))


def test_an_empty_file_is_an_empty_list(suppressions: TenantSuppressions) -> None:
    assert take(suppressions, "") == Imported(0, 0, 0, [])


def test_what_is_exported_comes_back_as_it_was(tables: SqliteTables) -> None:
    here, there = service(tables, "default"), service(tables, "default")
    here.add("one@a.example", reason=SuppressionReason.UNSUBSCRIBE, note='said "no", twice\nand more')
    here.add("+two@a.example", reason=SuppressionReason.BOUNCE, note="=HYPERLINK(1)")
    here.add("'+three@a.example", reason=SuppressionReason.BOUNCE, note="'quoted'")
    exported = "".join(here.export_csv())
    before = list(here.entries())
    for found in before:
        here.remove(found.address)
    assert ",=HYPERLINK" not in exported
    assert take(there, exported).added == 3
    assert list(there.entries()) == before


@pytest.mark.parametrize(
    "added_at",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999", "10000-01-01", "yesterday"],
)
def test_a_time_that_could_not_be_printed_again_is_refused_and_the_list_can_be_read(
    suppressions: TenantSuppressions, added_at: str
) -> None:
    done = take(suppressions, f"address,added_at\none@a.example,{added_at}\ntwo@a.example,0001-01-01T00:00:00Z\n")
    assert [line.text for line in done.rejected] == ["one@a.example"]
    assert "two@a.example,manual,,0001-01-01T00:00:00.000Z" in "".join(suppressions.export_csv())
