"""Idempotency keys: one effect and one answer, whatever dies when, however many call at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.errors import Conflict, Denied, LeaseLost, NotFound, Unavailable
from postroom.gateway.errors import IdempotencyInProgress, IdempotencyKeyReused
from postroom.gateway.idempotency import (
    KEPT_MS,
    LEASE_MS,
    MOST_CANONICAL,
    CachedResponse,
    IdempotencyLease,
    IdempotencyStore,
    IdempotentRequest,
    request_digest,
)
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.tables import Item, ItemKey
from tests.fakes.clock import ManualClock
from tests.fakes.faults import Faults, Killed
from tests.fakes.secrets import PlainSecrets
from tests.gateway.frame_kit import EDITOR, Answer, Things, ask, call, door

KEYED = {**EDITOR, "Idempotency-Key": "k1"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tables(tmp_path: Path, clock: ManualClock) -> Iterator[SqliteTables]:
    with closing(open_control(tmp_path)) as database:
        yield SqliteTables(database, clock)


def post(app: Any, *, headers: dict[str, str] = KEYED, name: str = "a", path: str = "/v1/things") -> Answer:
    return ask(app, "POST", path, headers=headers, json={"name": name})


def test_a_repetition_gets_the_first_answer_and_changes_nothing(tables: SqliteTables, clock: ManualClock) -> None:
    things = Things()
    app = door(things, clock, tables=tables)
    first, second = post(app), post(app)
    assert (first.status, first.body) == (second.status, second.body) == (201, b'{"id":"t0","name":"a"}')
    assert "idempotent-replayed" not in first.fields
    assert second.fields["idempotent-replayed"] == "true"
    assert second.fields["content-type"] == "application/json"
    assert things.runs == 1


def test_spaces_and_order_of_members_make_no_other_content(tables: SqliteTables, clock: ManualClock) -> None:
    app = door(Things(), clock, tables=tables)
    fields = {**KEYED, "Content-Type": "application/json"}
    ask(app, "POST", "/v1/things", headers=fields, body=b'{"name":"a","parts":[]}')
    assert ask(app, "POST", "/v1/things", headers=fields, body=b'{ "parts" : [], "name": "a" }').status == 201


def test_of_a_large_body_the_bytes_count() -> None:
    small, large = b'"1"', b'"' + b"1" * MOST_CANONICAL + b'"'

    def same(one: bytes, other: bytes) -> bool:
        return request_digest("user:u", "POST /x", b"", one) == request_digest("user:u", "POST /x", b"", other)

    assert same(b"[" + small + b"]", b"[ " + small + b"]")
    assert same(b"[" + large + b"]", b"[" + large + b"]")
    assert not same(b"[" + large + b"]", b"[ " + large + b"]")


def test_content_nested_too_deep_is_the_callers_mistake(tables: SqliteTables, clock: ManualClock) -> None:
    """It can be read, and not be written again."""
    app = door(Things(), clock, tables=tables)
    fields = {**KEYED, "Content-Type": "application/json"}
    assert ask(app, "POST", "/v1/things", headers=fields, body=b"[" * 1_000 + b"]" * 1_000).status == 422


def test_parts_of_a_call_do_not_run_into_each_other() -> None:
    assert request_digest("user:u", "POST /x", b"a", b"b") != request_digest("user:u", "POST /xa", b"", b"b")


def test_another_content_under_the_same_key_is_refused(tables: SqliteTables, clock: ManualClock) -> None:
    things = Things()
    app = door(things, clock, tables=tables)
    post(app)
    answer = post(app, name="b")
    assert (answer.status, answer.json["type"]) == (409, "/problems/idempotency-key-reused")
    assert things.records == {"t0": "a"}


def test_somebody_else_of_the_tenant_does_not_get_the_answer(tables: SqliteTables, clock: ManualClock) -> None:
    """It may hold a new API key."""
    app = door(Things(), clock, tables=tables)
    post(app)
    other = post(app, headers={**KEYED, "Authorization": "Bearer viewer acme"})
    assert other.json["type"] == "/problems/idempotency-key-reused"


def test_tenants_and_paths_have_keys_of_their_own(tables: SqliteTables, clock: ManualClock) -> None:
    app = door(Things(), clock, tables=tables)
    assert post(app).json["id"] == "t0"
    assert post(app, headers={**KEYED, "Authorization": "Bearer editor other"}).json["id"] == "t1"
    assert ask(app, "POST", "/v1/things/import", headers=KEYED).json["id"] == "many"


def test_a_key_is_free_again_after_a_day(tables: SqliteTables, clock: ManualClock) -> None:
    app = door(Things(), clock, tables=tables)
    post(app)
    clock.advance(KEPT_MS / 1_000 + 1)
    assert post(app, name="b").json == {"id": "t1", "name": "b"}


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tin it", "käse"])
def test_a_key_that_is_none_is_refused(tables: SqliteTables, clock: ManualClock, key: str) -> None:
    answer = post(door(Things(), clock, tables=tables), headers={**EDITOR, "Idempotency-Key": key})
    assert answer.status == 422


def test_a_call_that_only_reads_takes_no_key(tables: SqliteTables, clock: ManualClock) -> None:
    things = Things()
    app = door(things, clock, tables=tables)
    for _ in range(2):
        assert ask(app, "POST", "/v1/things/preview", headers=KEYED, json={"name": "a"}).status == 200
    assert things.runs == 2


@pytest.mark.parametrize("path", ["/v1/things", "/v1/things/quick"])
def test_what_was_not_valid_leaves_the_key_free_for_the_corrected_call(
    tables: SqliteTables, clock: ManualClock, path: str
) -> None:
    app = door(Things(), clock, tables=tables)
    assert post(app, name="", path=path).status == 422
    assert post(app, name="a", path=path).status < 300


@pytest.mark.parametrize(
    "error", [Unavailable("away"), Denied("no"), RuntimeError("a mistake"), Conflict("still importing"), NotFound("not yet")]
)
def test_what_may_pass_is_tried_again_with_the_same_id(tables: SqliteTables, clock: ManualClock, error: Exception) -> None:
    things = Things()
    app = door(things, clock, tables=tables)
    things.after = raising(error)
    assert post(app).status >= 400
    things.after = lambda: None
    assert post(app).json["id"] == "t0"
    assert things.records == {"t0": "a"}


def test_what_may_pass_binds_the_key_to_its_content_once_it_has_begun(tables: SqliteTables, clock: ManualClock) -> None:
    things = Things()
    app = door(things, clock, tables=tables)
    things.after = raising(Unavailable("away"))
    post(app)
    assert post(app, name="b").status == 409


def test_twenty_at_once_have_one_effect_and_one_answer(tables: SqliteTables, clock: ManualClock) -> None:
    """The first holds its lease until all others have looked."""
    watched = Watched(tables)
    things = Things(before=lambda: watched.wait_for_looks(20))
    app = door(things, clock, tables=watched)

    async def all_at_once() -> list[Answer]:
        return await asyncio.gather(*(call(app, "POST", "/v1/things", headers=KEYED, json={"name": "a"}) for _ in range(20)))

    answers = asyncio.run(all_at_once())
    assert {(answer.status, answer.body) for answer in answers} == {(201, b'{"id":"t0","name":"a"}')}
    assert sum("idempotent-replayed" in answer.fields for answer in answers) == 19
    assert things.runs == 1


def test_who_waits_too_long_is_told_to_come_again(
    tables: SqliteTables, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.gateway.pipeline._LONGEST_WAIT_S", 0.0)
    app = door(Things(), clock, tables=tables)
    things = Things(after=raising(Killed()))
    with pytest.raises(Killed):
        post(door(things, clock, tables=tables))
    answer = post(app)
    assert (answer.status, answer.json["type"]) == (409, "/problems/idempotency-in-progress")
    assert answer.fields["retry-after"] == "2"


CALLS = {"/v1/things": 4, "/v1/things/quick": 3}
"""Of the store: get, write (the lease), write (the id; `quick` has it in the lease), write (the answer)."""


class TestKilledBetweenAnyTwoSteps:
    """`kill -9` at every call of the store, before and after its effect, and around the handler's own effect."""

    @pytest.mark.parametrize("path", CALLS)
    def test_that_is_all_of_them(self, tables: SqliteTables, clock: ManualClock, path: str) -> None:
        faults = Faults()
        post(door(Things(), clock, tables=faults.wrap(tables)), path=path)
        assert len(faults.calls) == CALLS[path]

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize(("path", "at"), [(path, at) for path, calls in CALLS.items() for at in range(1, calls + 1)])
    def test_in_the_store(self, tables: SqliteTables, clock: ManualClock, path: str, at: int, after: bool) -> None:
        things = Things()
        with pytest.raises(Killed):
            post(door(things, clock, tables=Faults(at, after=after).wrap(tables)), path=path)
        self.comes_out_as_one(things, tables, clock, path)

    @pytest.mark.parametrize("path", CALLS)
    @pytest.mark.parametrize("where", ["before", "after"])
    def test_in_the_handler(self, tables: SqliteTables, clock: ManualClock, where: str, path: str) -> None:
        things = Things()
        setattr(things, where, raising(Killed()))
        with pytest.raises(Killed):
            post(door(things, clock, tables=tables), path=path)
        setattr(things, where, lambda: None)
        self.comes_out_as_one(things, tables, clock, path)

    def comes_out_as_one(self, things: Things, tables: SqliteTables, clock: ManualClock, path: str) -> None:
        made = dict(things.records)
        clock.advance(LEASE_MS / 1_000 + 1)
        answer = post(door(things, clock, tables=tables), path=path)
        assert answer.status < 300
        assert things.records == {answer.json["id"]: "a"}
        assert not made or made == things.records
        assert post(door(things, clock, tables=tables), path=path).body == answer.body


class TestLeases:
    """The store by itself."""

    ASK = IdempotentRequest("acme", "k", "POST /v1/things", request_digest("user:u", "POST /v1/things", b"", b"{}"))

    @pytest.fixture
    def keys(self, tables: SqliteTables, clock: ManualClock) -> IdempotencyStore:
        return IdempotencyStore(tables, PlainSecrets(), clock)

    def lease(self, keys: IdempotencyStore) -> IdempotencyLease:
        claim = keys.begin(self.ASK)
        assert isinstance(claim, IdempotencyLease)
        return claim

    def test_whoever_lost_its_lease_cannot_note(self, keys: IdempotencyStore, clock: ManualClock) -> None:
        first = self.lease(keys)
        clock.advance(LEASE_MS / 1_000)
        second = self.lease(keys)
        with pytest.raises(LeaseLost):
            first.once("id", lambda: "one")
        assert second.once("id", lambda: "two") == "two"

    def test_whoever_lost_its_lease_cannot_finish(self, keys: IdempotencyStore, clock: ManualClock) -> None:
        first = self.lease(keys)
        clock.advance(LEASE_MS / 1_000)
        second = self.lease(keys)
        first.finish(CachedResponse(201, {}, b"one"))
        second.finish(CachedResponse(201, {}, b"two"))
        assert keys.begin(self.ASK) == CachedResponse(201, {}, b"two")

    def test_a_running_lease_is_not_taken(self, keys: IdempotencyStore, clock: ManualClock) -> None:
        self.lease(keys)
        clock.advance(LEASE_MS / 1_000 - 1)
        with pytest.raises(IdempotencyInProgress):
            keys.begin(self.ASK)

    def test_notes_outlive_the_lease(self, keys: IdempotencyStore, clock: ManualClock) -> None:
        self.lease(keys).once("id", lambda: "one")
        clock.advance(LEASE_MS / 1_000)
        assert self.lease(keys).once("id", lambda: "two") == "one"

    def test_an_answer_too_large_to_seal_is_made_again(self, keys: IdempotencyStore) -> None:
        lease = self.lease(keys)
        lease.once("id", lambda: "one")
        lease.finish(CachedResponse(200, {}, b"x" * 70_000))
        assert self.lease(keys).once("id", lambda: "two") == "one"

    def test_the_answer_is_stored_sealed(self, tables: SqliteTables, clock: ManualClock) -> None:
        keys = IdempotencyStore(tables, Reversing(), clock)
        self.lease(keys).finish(CachedResponse(201, {}, b"secret"))
        stored = tables.query("acme#idempotency").items[0].data
        assert "secret" not in str(stored)
        assert keys.begin(self.ASK) == CachedResponse(201, {}, b"secret")

    def test_two_beginnings_have_one_winner(self, tables: SqliteTables, clock: ManualClock) -> None:
        """The other one reads before the first has written."""
        keys = IdempotencyStore(tables, PlainSecrets(), clock)
        late = IdempotencyStore(Blind(tables), PlainSecrets(), clock)
        self.lease(keys)
        with pytest.raises(IdempotencyInProgress):
            late.begin(self.ASK)

    def test_another_digest_is_another_call(self, keys: IdempotencyStore) -> None:
        self.lease(keys)
        with pytest.raises(IdempotencyKeyReused):
            keys.begin(IdempotentRequest("acme", "k", "POST /v1/things", "other"))

    def test_records_expire(self, keys: IdempotencyStore, tables: SqliteTables, clock: ManualClock) -> None:
        self.lease(keys)
        assert tables.query("acme#idempotency").items[0].expires_at == Instant(clock.now() + KEPT_MS)


def raising(error: BaseException) -> Callable[[], None]:
    def happens() -> None:
        raise error

    return happens


class Watched:
    """Tables that count looks."""

    def __init__(self, tables: SqliteTables) -> None:
        self._tables = tables
        self._looks = 0
        self._changed = threading.Condition()

    def get(self, key: ItemKey) -> Item | None:
        found = self._tables.get(key)
        with self._changed:
            self._looks += 1
            self._changed.notify_all()
        return found

    def wait_for_looks(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._looks >= count, timeout=10)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


class Blind:
    """Tables whose first look finds nothing."""

    def __init__(self, tables: SqliteTables) -> None:
        self._tables = tables
        self._looked = False

    def get(self, key: ItemKey) -> Item | None:
        if not self._looked:
            self._looked = True
            return None
        return self._tables.get(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


class Reversing(PlainSecrets):
    """Seals that do not show what they hold."""

    def seal(self, purpose: str, plain: bytes) -> str:
        return super().seal(purpose, plain[::-1])

    def open(self, purpose: str, sealed: str) -> bytes:
        return super().open(purpose, sealed)[::-1]
