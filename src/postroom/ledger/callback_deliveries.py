"""Requests that tell endpoints of events: kept until they are answered well, and a while longer for whoever asks what was told.

    {tenant}#deliveries#{endpoint} / id              the record; ids begin with their time
    {tenant}#deliveries-due#{endpoint} / due/id      what is to be tried, in the order of its time
    #callback-lanes / {tenant}/{endpoint}            whose there are; ends by itself two days after the last was added

A record and its place among what is due are one write. Whoever takes a delivery moves its place into the future first: should
they be killed, it is tried again then, under the same id. So nothing is lost, and what is told twice is known by its id.

Whose turn it is at an endpoint's lane, where processes come and go: one at a time, and what it learned stays for the next.

    #callback-turns / {tenant}/{endpoint}    until when it is somebody's, or rests; how often it failed in a row; when it is woken

Whoever is killed holds up a lane until its turn runs out, and no longer. A lane that rests is in nobody's hands until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.ledger.collection import every
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.callback import CallbackDelivery, DeliveryStatus, redact_payload
from postroom.platform.ports.tables import MAX_WRITES, Delete, Expect, Item, ItemKey, Put, Tables, Write

_LANES: Final = "#callback-lanes"


_LANE_MS: Final = 2 * 86_400_000


_LANE_NOTED_S: Final = 3_600.0


_LANES_NOTED: Final = 10_000


_KEPT_MS: Final = {DeliveryStatus.DELIVERED: 3 * 86_400_000, DeliveryStatus.DEAD: 30 * 86_400_000}


_A_DELIVERY: Final = 3


"""Writes that one takes at most: its record, the place it had, the place it gets."""


_TRIES: Final = 10


_CALL_BYTES: Final = 2_000_000


_FORGET_AT_ONCE: Final = 100


"""Records in one page: each may have 100 KB."""


_DEAD_PAGE: Final = 200


"""Their bodies are read too."""


class ClaimedDelivery(NamedTuple):
    """A delivery in somebody's hands until its lease runs out."""

    delivery: CallbackDelivery
    place: str
    """Where it stands among what is due."""
    version: int
    """Of its record, as it was read."""


class DeliveryPage(NamedTuple):
    """Part of a list, newest first. `cursor` asks for the next part."""

    deliveries: list[CallbackDelivery]
    cursor: str | None


class RedeliveryResult(NamedTuple):
    """What was ordered again of a part of a list. `cursor`: where to go on."""

    ordered: int
    looked_at: int
    cursor: str | None


class EndpointRef(NamedTuple):
    """An endpoint of which there are deliveries."""

    tenant: str
    endpoint: str


class CallbackDeliveries:
    """Of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._noted: TtlCache[EndpointRef, bool] = TtlCache(clock, most=_LANES_NOTED)

    def add(self, deliveries: Sequence[CallbackDelivery]) -> int:
        """Of one endpoint, due at once; how many were not there yet. Again, after a kill in the middle say: harmless."""
        if not deliveries:
            return 0
        lane = EndpointRef(deliveries[0].tenant, deliveries[0].endpoint)
        self._note(lane)
        known = self._tables.existing(_log(lane), [each.id for each in deliveries])
        new = list({each.id: each for each in deliveries if each.id not in known}.values())
        for group in _groups(new):
            writes: list[Write] = []
            for each in group:
                writes += [Put(_record(lane, each.id), _data(each), Expect.ABSENT), Put(_due(lane, _place(each)), {})]
            self._tables.write(writes)
        return len(new)

    def lanes(self) -> Iterator[EndpointRef]:
        """Those of which there may be something to try. Not one snapshot."""
        for item in every(self._tables, _LANES):
            yield EndpointRef(*item.key.sort.split("/", 1))

    def take(self, lane: EndpointRef, *, limit: int, lease_ms: int) -> list[ClaimedDelivery]:
        """Up to `limit` (1 to 33) that are due, the longest due first; nobody else gets them before the lease has run out."""
        now = self._clock.now()
        items = self._tables.query(_due_partition(lane), limit=limit).items
        due = [item for item in items if _due_at(item.key.sort) <= now]
        if not due:
            return []
        until, moves, places = Instant(now + lease_ms), list[Write](), dict[str, str]()
        for item in due:
            name = item.key.sort.partition("/")[2]
            moves.append(Delete(item.key, item.version))
            if name not in places:  # one that was ordered again while somebody had it in their hands has two
                places[name] = _place_of(until, name)
                moves.append(Put(_due(lane, places[name]), {}))
        try:
            self._tables.write(moves)
        except Conflict:  # somebody else was first
            return []
        return self._read(lane, places)

    def is_due(self, lane: EndpointRef) -> bool:
        """Whether there is something to take."""
        due = self.next_due(lane)
        return due is not None and due <= self._clock.now()

    def next_due(self, lane: EndpointRef) -> Instant | None:
        """When the next is due; of those in somebody's hands, when their lease runs out. None: nothing is owed."""
        first = self._tables.query(_due_partition(lane), limit=1).items
        return Instant(_due_at(first[0].key.sort)) if first else None

    def give_up(self, lane: EndpointRef, before: Instant, reason: str) -> int:
        """End those, of the first that are due, whose day began before then; how many."""
        now, items = self._clock.now(), self._tables.query(_due_partition(lane), limit=MAX_WRITES // _A_DELIVERY).items
        places = {item.key.sort.partition("/")[2]: item.key.sort for item in items if _due_at(item.key.sort) <= now}
        old = [each for each in self._read(lane, places) if each.delivery.since < before]
        self.settle(old, [_ended(each.delivery, now, reason) for each in old])
        return len(old)

    def _read(self, lane: EndpointRef, places: Mapping[str, str]) -> list[ClaimedDelivery]:
        """The records that stand at these places. What has no record any more, or is over, loses its place."""
        items = self._tables.get_many([_record(lane, name) for name in places])
        read = {item.key.sort: ClaimedDelivery(_delivery(item), places[item.key.sort], item.version) for item in items.values()}
        found = [each for _, each in sorted(read.items()) if each.delivery.status is DeliveryStatus.PENDING]
        if strays := places.keys() - {each.delivery.id for each in found}:
            self._tables.write([Delete(_due(lane, places[name])) for name in strays])
        return found

    def settle(self, taken: Sequence[ClaimedDelivery], became: Sequence[CallbackDelivery]) -> None:
        """What became of them, aligned. What another did with one meanwhile (settled, ordered again, dropped) stays."""
        pairs = list(zip(taken, became, strict=True))
        for first in range(0, len(pairs), MAX_WRITES // _A_DELIVERY):
            self._settle(pairs[first : first + MAX_WRITES // _A_DELIVERY])

    def _settle(self, pairs: Sequence[tuple[ClaimedDelivery, CallbackDelivery]]) -> None:
        try:
            self._tables.write([write for pair in pairs for write in _settling(*pair)])
        except Conflict:
            if len(pairs) > 1:
                for pair in pairs:
                    self._settle([pair])
                return
            self._settle_otherwise(*pairs[0])

    def _settle_otherwise(self, taken: ClaimedDelivery, became: CallbackDelivery) -> None:
        """The record is another than was taken. Where it is the same try all the same, a person was taken out of it."""
        lane, was = EndpointRef(became.tenant, became.endpoint), taken.delivery
        item = self._tables.get(_record(lane, became.id))
        known = None if item is None else _delivery(item)
        if item is not None and known is not None and replace(was, body=known.body, last_text=known.last_text) == known:
            nameless = replace(became, body=known.body, last_text="")  # what was answered may name them
            self._settle([(taken._replace(version=item.version), nameless)])
        else:
            self._tables.write([Delete(_due(lane, taken.place))])

    def list(
        self, tenant: str, endpoint: str, *, status: DeliveryStatus | None = None, cursor: str | None = None, limit: int = 100
    ) -> DeliveryPage:
        """Of one endpoint, newest first; a page may be short before the end. `limit` 1 to 1,000."""
        page = self._tables.query(_log(EndpointRef(tenant, endpoint)), cursor=cursor, limit=limit, reverse=True)
        found = [_delivery(item) for item in page.items]
        return DeliveryPage([each for each in found if status in (None, each.status)], page.cursor)

    def get(self, tenant: str, endpoint: str, id: str) -> CallbackDelivery:  # noqa: A002
        """One; `NotFound`."""
        return _delivery(self._item(EndpointRef(tenant, endpoint), id))

    def redeliver(self, tenant: str, endpoint: str, id: str) -> CallbackDelivery:  # noqa: A002
        """Try it again from now on, for a day, under its id; one that waits for its next try, now. `NotFound`."""
        lane = EndpointRef(tenant, endpoint)
        for _ in range(_TRIES):
            item = self._item(lane, id)
            known = _delivery(item)
            again = _again(known, self._clock.now())
            self._note(lane)
            with suppress(Conflict):  # somebody ordered it at the same time: look again
                self._tables.write(list(_ordering(known, again, item.version)))
                return again
        raise Conflict(f"the delivery {id} is being changed by others all the time; try again")

    def redeliver_dead(self, tenant: str, endpoint: str, *, since: Instant, cursor: str | None = None) -> RedeliveryResult:
        """The same with all that was given up, of a part of the list, and made at `since` or later. Again: harmless."""
        lane = EndpointRef(tenant, endpoint)
        page = self._tables.query(_log(lane), cursor=cursor, limit=_DEAD_PAGE, reverse=True)
        versions = {item.key.sort: item.version for item in page.items}
        found = [_delivery(item) for item in page.items]
        dead = [each for each in found if each.status is DeliveryStatus.DEAD and each.created_at >= since]
        if dead:
            self._note(lane)
        for group in _groups(dead):
            now = self._clock.now()
            try:
                self._tables.write([one for each in group for one in _ordering(each, _again(each, now), versions[each.id])])
            except Conflict:  # somebody changed one of them: each by itself
                for each in group:
                    with suppress(NotFound):  # it is kept no longer
                        self.redeliver(tenant, endpoint, each.id)
        return RedeliveryResult(len(dead), len(found), page.cursor)

    def drop(self, tenant: str, endpoint: str) -> None:
        """All of an endpoint that was removed. Again: harmless; a kill on the way leaves some, for the next."""
        lane = EndpointRef(tenant, endpoint)
        for partition in (_due_partition(lane), _log(lane)):
            while items := self._tables.query(partition, limit=MAX_WRITES).items:
                self._tables.write([Delete(item.key) for item in items])
        self._tables.write([Delete(ItemKey(_LANES, _name(lane)))])

    def forget(self, tenant: str, endpoint: str, is_theirs: Callable[[str], bool], beat: Callable[[], None]) -> int:
        """Take a person out of what an endpoint was told and is to be told; how many requests told of them. Again: harmless.
        `beat` is called again and again."""
        lane, cursor, found = EndpointRef(tenant, endpoint), None, 0
        while True:
            beat()
            page = self._tables.query(_log(lane), cursor=cursor, limit=_FORGET_AT_ONCE)
            found += sum(self._forget(item, is_theirs) for item in page.items)
            cursor = page.cursor
            if cursor is None:
                return found

    def _forget(self, found: Item, is_theirs: Callable[[str], bool]) -> bool:
        item: Item | None = found
        for _ in range(_TRIES):
            if item is None:  # its time was over
                return False
            known = _delivery(item)
            if (body := redact_payload(known.body, is_theirs)) == known.body:
                return False
            nameless = replace(known, body=body, last_text="")
            with suppress(Conflict):  # it was tried at the same time: look again
                self._tables.write([Put(item.key, _data(nameless), item.version, expires_at=item.expires_at)])
                return True
            item = self._tables.get(item.key)
        raise Conflict(f"the delivery {found.key.sort} is being changed by others all the time; try again")

    def _note(self, lane: EndpointRef) -> None:
        """Before the first of an hour is added: a lane without deliveries costs a look, a delivery without a lane is lost."""
        if self._noted.get(lane):
            return
        self._tables.write([Put(ItemKey(_LANES, _name(lane)), {}, expires_at=Instant(self._clock.now() + _LANE_MS))])
        self._noted.put(lane, True, seconds=_LANE_NOTED_S)

    def _item(self, lane: EndpointRef, id: str) -> Item:  # noqa: A002
        item = self._tables.get(_record(lane, id))
        if item is None:
            raise NotFound(f"there is no delivery {id}")
        return item


def _ended(delivery: CallbackDelivery, now: Instant, reason: str) -> CallbackDelivery:
    return replace(delivery, status=DeliveryStatus.DEAD, due=None, last_at=now, last_text=delivery.last_text or reason)


def _settling(taken: ClaimedDelivery, became: CallbackDelivery) -> Iterator[Write]:
    lane = EndpointRef(became.tenant, became.endpoint)
    kept = _KEPT_MS.get(became.status)
    ends = None if kept is None or became.last_at is None else Instant(became.last_at + kept)
    yield Put(_record(lane, became.id), _data(became), taken.version, expires_at=ends)
    place = None if became.due is None else _place(became)
    if place != taken.place:
        yield Delete(_due(lane, taken.place))
    if place is not None:
        yield Put(_due(lane, place), {})


def _again(delivery: CallbackDelivery, now: Instant) -> CallbackDelivery:
    """Due now, and for a day."""
    return replace(delivery, status=DeliveryStatus.PENDING, due=now, since=now, attempts=0)


def _ordering(known: CallbackDelivery, again: CallbackDelivery, version: int) -> Iterator[Write]:
    lane, place = EndpointRef(known.tenant, known.endpoint), _place(again)
    yield Put(_record(lane, known.id), _data(again), version)
    if known.due is not None and _place(known) != place:
        yield Delete(_due(lane, _place(known)))
    yield Put(_due(lane, place), {})


def _groups(deliveries: Sequence[CallbackDelivery]) -> Iterator[list[CallbackDelivery]]:
    """As many as one write takes."""
    rest = iter(deliveries)
    most = min(MAX_WRITES // 2, max(1, _CALL_BYTES // max((len(each.body) for each in deliveries), default=1)))
    while group := list(islice(rest, most)):
        yield group


def _name(lane: EndpointRef) -> str:
    return f"{lane.tenant}/{lane.endpoint}"


def _log(lane: EndpointRef) -> str:
    return f"{lane.tenant}#deliveries#{lane.endpoint}"


def _due_partition(lane: EndpointRef) -> str:
    return f"{lane.tenant}#deliveries-due#{lane.endpoint}"


def _record(lane: EndpointRef, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_log(lane), id)


def _due(lane: EndpointRef, place: str) -> ItemKey:
    return ItemKey(_due_partition(lane), place)


def _place(delivery: CallbackDelivery) -> str:
    assert delivery.due is not None
    return _place_of(delivery.due, delivery.id)


def _place_of(due: Instant, name: str) -> str:
    return f"{due:015d}/{name}"


def _due_at(place: str) -> int:
    return int(place.partition("/")[0])


def _data(delivery: CallbackDelivery) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(delivery)
    return data


def _delivery(item: Item) -> CallbackDelivery:
    try:
        return msgspec.convert(item.data, CallbackDelivery)
    except msgspec.ValidationError as error:
        raise Corrupt(f"the delivery {item.key.sort} cannot be read: {error}") from error


_TURNS: Final = "#callback-turns"


_LEASE_KEPT_MS: Final = 2 * 86_400_000


class EndpointLease(NamedTuple):
    """Somebody's."""

    lane: EndpointRef
    version: int
    failures: int
    """Requests that failed in a row, as whoever had it before knew."""
    wakes_at: Instant
    """When a wake is on its way that somebody put; in the past: none is."""


class EndpointLeases:
    """Of all lanes."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def take(self, lane: EndpointRef, *, lease_ms: int) -> EndpointLease | None:
        """None: it is somebody else's, or it rests."""
        key, now = _key(lane), self._clock.now()
        item = self._tables.get(key)
        known = {"failures": 0, "wakes": 0, "until": 0} if item is None else item.data
        if known["until"] > now:
            return None
        try:
            version = self._put(lane, {**known, "until": now + lease_ms}, Expect.ABSENT if item is None else item.version)
        except Conflict:  # somebody was first
            return None
        return EndpointLease(lane, version, known["failures"], Instant(known["wakes"]))

    def end(self, turn: EndpointLease, *, failures: int, rests_until: Instant, wakes_at: Instant) -> None:
        """Let the next one have it, from `rests_until` on. One that ran out before is left as it is."""
        with suppress(Conflict):
            self._put(turn.lane, {"failures": failures, "wakes": wakes_at, "until": rests_until}, turn.version)

    def _put(self, lane: EndpointRef, data: dict[str, int], expect: Expect | int) -> int:
        ends = Instant(self._clock.now() + _LEASE_KEPT_MS)
        (version,) = self._tables.write([Put(_key(lane), data, expect, expires_at=ends)])
        return version


def _key(lane: EndpointRef) -> ItemKey:
    return ItemKey(_TURNS, f"{lane.tenant}/{lane.endpoint}")
