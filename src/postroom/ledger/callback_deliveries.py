"""Callback deliveries: signed requests to endpoints, kept until they succeed, and a while longer for the delivery log.

    {tenant}#deliveries#{endpoint} / id              the record; ids begin with their time
    {tenant}#deliveries-due#{endpoint} / due/id      what is to be sent, in the order of its time
    #callback-lanes / {tenant}/{endpoint}            endpoints that have deliveries; expires two days after the last was added
    #callback-turns / {tenant}/{endpoint}            the lease of an endpoint's queue (`EndpointLeases`)

A record and its entry among what is due are one atomic write. `claim` first moves the entry into the future: after a crash the
request is sent again then, under the same id. So no delivery is lost, and receivers recognise duplicates by their id.

Only one worker at a time sends to an endpoint. A worker that is killed blocks the endpoint until its lease expires. The lease's
record also keeps how often requests failed in a row, for the next holder, and makes an endpoint rest between retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from typing import Final, NamedTuple

from msgspec.structs import replace

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, NotFound
from postroom.ledger.collection import Collection, ListPage, expect_of, iterate_items, write_retrying
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.callback import CallbackDelivery, DeliveryStatus, redact_payload
from postroom.platform.ports.tables import MAX_WRITES, Delete, Expect, Item, ItemKey, Put, Tables, Write

_ENDPOINTS: Final = "#callback-lanes"
_ENDPOINT_MS: Final = 2 * 86_400_000
_REGISTERED_S: Final = 3_600.0
_REGISTERED: Final = 10_000
_KEPT_MS: Final = {DeliveryStatus.DELIVERED: 3 * 86_400_000, DeliveryStatus.DEAD: 30 * 86_400_000}
_A_DELIVERY: Final = 3
"""Writes for one delivery at most: its record, its old and its new entry among what is due."""
_CALL_BYTES: Final = 2_000_000
_FORGET_AT_ONCE: Final = 100
"""Records read at once: each may have 100 KB."""
_DEAD_PAGE: Final = 200
"""Records read at once by `redeliver_dead`, bodies included."""


class ClaimedDelivery(NamedTuple):
    """A delivery that a worker sends, until its lease expires."""

    delivery: CallbackDelivery
    place: str
    """Its entry among what is due."""
    version: int
    """The version of its record as it was read."""


class RedeliveryResult(NamedTuple):
    """What `redeliver_dead` did with a part of the list. `cursor`: pass it to go on; None: done."""

    ordered: int
    looked_at: int
    cursor: str | None


class EndpointRef(NamedTuple):
    """An endpoint of a tenant; `endpoint` may be a campaign's own (`CAMPAIGN_PREFIX`)."""

    tenant: str
    endpoint: str


class CallbackDeliveries:
    """The deliveries of all tenants."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._records = Collection(tables, CallbackDelivery, "delivery")
        self._registered: TtlCache[EndpointRef, bool] = TtlCache(clock, most=_REGISTERED)

    def add(self, deliveries: Sequence[CallbackDelivery]) -> int:
        """Store deliveries of one endpoint, due at once; how many were new. Safe to repeat, also after a crash in the middle."""
        if not deliveries:
            return 0
        ref = EndpointRef(deliveries[0].tenant, deliveries[0].endpoint)
        self._register(ref)
        known = self._tables.existing(_log(ref), [each.id for each in deliveries])
        new = list({each.id: each for each in deliveries if each.id not in known}.values())
        for group in _groups(new):
            writes: list[Write] = []
            for each in group:
                writes += [self._records.put_of(_record(ref, each.id), each, Expect.ABSENT), Put(_due(ref, _place(each)), {})]
            self._tables.write(writes)
        return len(new)

    def endpoints(self) -> Iterator[EndpointRef]:
        """Endpoints that may have something due. Not a snapshot."""
        for item in iterate_items(self._tables, _ENDPOINTS):
            yield EndpointRef(*item.key.sort.split("/", 1))

    def claim(self, ref: EndpointRef, *, limit: int, lease_ms: int) -> list[ClaimedDelivery]:
        """Claim up to `limit` (1 to 33) due deliveries, the longest due first. Other workers get them only after `lease_ms`."""
        now = self._clock.now()
        items = self._tables.query(_due_partition(ref), limit=limit).items
        due = [item for item in items if _due_at(item.key.sort) <= now]
        if not due:
            return []
        until, moves, places = Instant(now + lease_ms), list[Write](), dict[str, str]()
        for item in due:
            name = item.key.sort.partition("/")[2]
            moves.append(Delete(item.key, item.version))
            if name not in places:  # a delivery redelivered while it was claimed has two entries
                places[name] = _place_of(until, name)
                moves.append(Put(_due(ref, places[name]), {}))
        try:
            self._tables.write(moves)
        except Conflict:  # another worker was first
            return []
        return self._read(ref, places)

    def is_due(self, ref: EndpointRef) -> bool:
        """Whether a delivery is due."""
        due = self.next_due(ref)
        return due is not None and due <= self._clock.now()

    def next_due(self, ref: EndpointRef) -> Instant | None:
        """When the next delivery is due; a claimed one is due when its lease expires. None: there is none."""
        first = self._tables.query(_due_partition(ref), limit=1).items
        return Instant(_due_at(first[0].key.sort)) if first else None

    def give_up(self, ref: EndpointRef, before: Instant, reason: str) -> int:
        """Give up the oldest due deliveries that were created or reordered before `before`; how many. Looks at 33 at most."""
        now, items = self._clock.now(), self._tables.query(_due_partition(ref), limit=MAX_WRITES // _A_DELIVERY).items
        places = {item.key.sort.partition("/")[2]: item.key.sort for item in items if _due_at(item.key.sort) <= now}
        old = [each for each in self._read(ref, places) if each.delivery.since < before]
        self.settle(old, [_ended(each.delivery, now, reason) for each in old])
        return len(old)

    def _read(self, ref: EndpointRef, places: Mapping[str, str]) -> list[ClaimedDelivery]:
        """The pending records of these entries. Entries without a pending record are deleted."""
        items = self._tables.get_many([_record(ref, name) for name in places])
        read = {
            item.key.sort: ClaimedDelivery(self._records.decode(item), places[item.key.sort], item.version)
            for item in items.values()
        }
        found = [each for _, each in sorted(read.items()) if each.delivery.status is DeliveryStatus.PENDING]
        if strays := places.keys() - {each.delivery.id for each in found}:
            self._tables.write([Delete(_due(ref, places[name])) for name in strays])
        return found

    def settle(self, taken: Sequence[ClaimedDelivery], became: Sequence[CallbackDelivery]) -> None:
        """Store the outcomes of claimed deliveries, aligned. If another process settled, reordered or dropped one meanwhile, that
        stays."""
        pairs = list(zip(taken, became, strict=True))
        for first in range(0, len(pairs), MAX_WRITES // _A_DELIVERY):
            self._settle(pairs[first : first + MAX_WRITES // _A_DELIVERY])

    def _settle(self, pairs: Sequence[tuple[ClaimedDelivery, CallbackDelivery]]) -> None:
        try:
            self._tables.write([write for pair in pairs for write in self._settling(*pair)])
        except Conflict:
            if len(pairs) > 1:
                for pair in pairs:
                    self._settle([pair])
                return
            self._settle_otherwise(*pairs[0])

    def _settle_otherwise(self, taken: ClaimedDelivery, became: CallbackDelivery) -> None:
        """The record was changed since it was claimed. If only a recipient was erased from it, the outcome is stored without its
        text."""
        ref, was = EndpointRef(became.tenant, became.endpoint), taken.delivery
        item = self._tables.get(_record(ref, became.id))
        known = None if item is None else self._records.decode(item)
        if item is not None and known is not None and replace(was, body=known.body, last_text=known.last_text) == known:
            nameless = replace(became, body=known.body, last_text="")  # what was answered may name them
            self._settle([(taken._replace(version=item.version), nameless)])
        else:
            self._tables.write([Delete(_due(ref, taken.place))])

    def list(
        self, tenant: str, endpoint: str, *, status: DeliveryStatus | None = None, cursor: str | None = None, limit: int = 100
    ) -> ListPage[CallbackDelivery]:
        """An endpoint's deliveries, newest first. A page may be short before the end. `limit`: 1 to 1,000."""
        page = self._tables.query(_log(EndpointRef(tenant, endpoint)), cursor=cursor, limit=limit, reverse=True)
        found = [self._records.decode(item) for item in page.items]
        return ListPage([each for each in found if status in (None, each.status)], page.cursor)

    def get(self, tenant: str, endpoint: str, id: str) -> CallbackDelivery:  # noqa: A002
        """A delivery. Raises `NotFound`."""
        return self._records.get(_record(EndpointRef(tenant, endpoint), id))

    def redeliver(self, tenant: str, endpoint: str, id: str) -> CallbackDelivery:  # noqa: A002
        """Send it again under the same id: now, and if that fails again for a day. Raises `NotFound`."""
        ref = EndpointRef(tenant, endpoint)

        def plan() -> tuple[list[Write], CallbackDelivery]:
            item = self._records.item(_record(ref, id))
            known = self._records.decode(item)
            again = _again(known, self._clock.now())
            self._register(ref)
            return list(self._ordering(known, again, item.version)), again

        return write_retrying(self._tables, plan, f"the delivery {id}")

    def redeliver_dead(self, tenant: str, endpoint: str, *, since: Instant, cursor: str | None = None) -> RedeliveryResult:
        """Send again all that was given up, of a part of the list, if created at `since` or later. Safe to repeat."""
        ref = EndpointRef(tenant, endpoint)
        page = self._tables.query(_log(ref), cursor=cursor, limit=_DEAD_PAGE, reverse=True)
        versions = {item.key.sort: item.version for item in page.items}
        found = [self._records.decode(item) for item in page.items]
        dead = [each for each in found if each.status is DeliveryStatus.DEAD and each.created_at >= since]
        if dead:
            self._register(ref)
        for group in _groups(dead):
            now = self._clock.now()
            try:
                self._tables.write([one for each in group for one in self._ordering(each, _again(each, now), versions[each.id])])
            except Conflict:  # one of them was changed: each by itself
                for each in group:
                    with suppress(NotFound):  # it has expired
                        self.redeliver(tenant, endpoint, each.id)
        return RedeliveryResult(len(dead), len(found), page.cursor)

    def drop(self, tenant: str, endpoint: str) -> None:
        """Delete all deliveries of a removed endpoint. Safe to repeat, also after a crash in the middle."""
        ref = EndpointRef(tenant, endpoint)
        for partition in (_due_partition(ref), _log(ref)):
            while items := self._tables.query(partition, limit=MAX_WRITES).items:
                self._tables.write([Delete(item.key) for item in items])
        self._tables.write([Delete(ItemKey(_ENDPOINTS, _name(ref)))])

    def forget(self, tenant: str, endpoint: str, is_theirs: Callable[[str], bool], beat: Callable[[], None]) -> int:
        """Erase a recipient from an endpoint's deliveries, sent or not; how many were changed. Safe to repeat. `is_theirs` tells
        the recipient's addresses; `beat` is called for each delivery, to keep a lock."""
        found = 0
        for item in iterate_items(self._tables, _log(EndpointRef(tenant, endpoint)), at_once=_FORGET_AT_ONCE):
            beat()
            found += self._forget(item, is_theirs)
        return found

    def _forget(self, found: Item, is_theirs: Callable[[str], bool]) -> bool:
        items = chain([found], repeat(None))

        def plan() -> tuple[list[Write], bool]:
            item = next(items) or self._tables.get(found.key)
            known = None if item is None else self._records.decode(item)
            if item is None or known is None or (body := redact_payload(known.body, is_theirs)) == known.body:
                return [], False
            redacted = replace(known, body=body, last_text="")
            return [self._records.put_of(item.key, redacted, item.version, expires_at=item.expires_at)], True

        return write_retrying(self._tables, plan, f"the delivery {found.key.sort}")

    def _settling(self, taken: ClaimedDelivery, became: CallbackDelivery) -> Iterator[Write]:
        ref = EndpointRef(became.tenant, became.endpoint)
        kept = _KEPT_MS.get(became.status)
        ends = None if kept is None or became.last_at is None else Instant(became.last_at + kept)
        yield self._records.put_of(_record(ref, became.id), became, taken.version, expires_at=ends)
        place = None if became.due is None else _place(became)
        if place != taken.place:
            yield Delete(_due(ref, taken.place))
        if place is not None:
            yield Put(_due(ref, place), {})

    def _ordering(self, known: CallbackDelivery, again: CallbackDelivery, version: int) -> Iterator[Write]:
        ref, place = EndpointRef(known.tenant, known.endpoint), _place(again)
        yield self._records.put_of(_record(ref, known.id), again, version)
        if known.due is not None and _place(known) != place:
            yield Delete(_due(ref, _place(known)))
        yield Put(_due(ref, place), {})

    def _register(self, ref: EndpointRef) -> None:
        """List the endpoint, before its first delivery of an hour is stored: a delivery of an unlisted endpoint would be lost."""
        if self._registered.get(ref):
            return
        self._tables.write([Put(ItemKey(_ENDPOINTS, _name(ref)), {}, expires_at=Instant(self._clock.now() + _ENDPOINT_MS))])
        self._registered.put(ref, True, seconds=_REGISTERED_S)


def _ended(delivery: CallbackDelivery, now: Instant, reason: str) -> CallbackDelivery:
    return replace(delivery, status=DeliveryStatus.DEAD, due=None, last_at=now, last_text=delivery.last_text or reason)


def _again(delivery: CallbackDelivery, now: Instant) -> CallbackDelivery:
    """Due now, retried for a day."""
    return replace(delivery, status=DeliveryStatus.PENDING, due=now, since=now, attempts=0)


def _groups(deliveries: Sequence[CallbackDelivery]) -> Iterator[list[CallbackDelivery]]:
    """Groups that fit one write."""
    rest = iter(deliveries)
    most = min(MAX_WRITES // 2, max(1, _CALL_BYTES // max((len(each.body) for each in deliveries), default=1)))
    while group := list(islice(rest, most)):
        yield group


def _name(ref: EndpointRef) -> str:
    return f"{ref.tenant}/{ref.endpoint}"


def _log(ref: EndpointRef) -> str:
    return f"{ref.tenant}#deliveries#{ref.endpoint}"


def _due_partition(ref: EndpointRef) -> str:
    return f"{ref.tenant}#deliveries-due#{ref.endpoint}"


def _record(ref: EndpointRef, id: str) -> ItemKey:  # noqa: A002
    return ItemKey(_log(ref), id)


def _due(ref: EndpointRef, place: str) -> ItemKey:
    return ItemKey(_due_partition(ref), place)


def _place(delivery: CallbackDelivery) -> str:
    assert delivery.due is not None
    return _place_of(delivery.due, delivery.id)


def _place_of(due: Instant, name: str) -> str:
    return f"{due:015d}/{name}"


def _due_at(place: str) -> int:
    return int(place.partition("/")[0])


_LEASES: Final = "#callback-turns"
_LEASE_KEPT_MS: Final = 2 * 86_400_000


class EndpointLease(NamedTuple):
    """The right to send to an endpoint, until `lease_ms` after it was taken."""

    ref: EndpointRef
    version: int
    failures: int
    """Requests that failed in a row, as the previous holder knew."""
    wakes_at: Instant
    """When a queued wakeup arrives; in the past: none is queued."""


class EndpointLeases:
    """The leases of all endpoints."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables = tables
        self._clock = clock

    def take(self, ref: EndpointRef, *, lease_ms: int) -> EndpointLease | None:
        """Take the lease; None if another worker holds it or the endpoint rests."""
        key, now = _key(ref), self._clock.now()
        item = self._tables.get(key)
        known = {"failures": 0, "wakes": 0, "until": 0} if item is None else item.data
        if known["until"] > now:
            return None
        try:
            version = self._put(ref, {**known, "until": now + lease_ms}, expect_of(item))
        except Conflict:  # another worker was first
            return None
        return EndpointLease(ref, version, known["failures"], Instant(known["wakes"]))

    def end(self, lease: EndpointLease, *, failures: int, rests_until: Instant, wakes_at: Instant) -> None:
        """Release the lease; it can be taken again from `rests_until` on. Does nothing if it expired."""
        with suppress(Conflict):
            self._put(lease.ref, {"failures": failures, "wakes": wakes_at, "until": rests_until}, lease.version)

    def _put(self, ref: EndpointRef, data: dict[str, int], expect: Expect | int) -> int:
        ends = Instant(self._clock.now() + _LEASE_KEPT_MS)
        (version,) = self._tables.write([Put(_key(ref), data, expect, expires_at=ends)])
        return version


def _key(ref: EndpointRef) -> ItemKey:
    return ItemKey(_LEASES, f"{ref.tenant}/{ref.endpoint}")
