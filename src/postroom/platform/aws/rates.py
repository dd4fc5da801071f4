"""`ports.rates` in DynamoDB: a bucket is an item, JSON text and a version, under pk `R#<bucket>` and sk `rates`.

Each change reads the bucket, computes the next one (`ports.rates.Bucket`), and stores it if the version is unchanged: one read
unit and one write unit. If another writer was faster, the refusal returns the bucket as it is now, and the change is computed
again, at once, then with growing pauses and jitter. Twenty functions that reserve a few dozen sends each seldom collide; a
bucket that stays contended for seconds is `Unavailable`. One item takes about 1,000 changes a second
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html).

A lost answer: botocore repeats the call, the repeat is refused, and our mark on the item shows that the first try was applied. If
another writer changed the bucket after us, the mark is gone, and it cannot be known whether our change was applied:

    reserve   again: at worst a reservation that is not used, as after a killed worker
    refund    not again: at worst sends are counted that were not made, never the reverse
    limit, slow   again: a second time changes nothing
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Corrupt, Unavailable
from postroom.platform.aws._dynamo import Expression, PrimaryKey, Record, Table
from postroom.platform.ports.rates import (
    Bucket,
    RateLimit,
    Reservation,
    UsedUp,
    check_bucket,
    check_limit,
    check_refund,
    check_seen,
    check_want,
)

_TRIES = 24  # the first two at once, then up to 20 ms doubling to 200 ms: about 2 s in all
_PAUSE_S, _PAUSE_MAX_S = 0.01, 0.2


class _Known(NamedTuple):
    """A bucket and its version; 0 if it is not stored yet."""

    bucket: Bucket
    version: int


class DynamoRates:
    """`ports.rates.Rates` in one table."""

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock

    def limit(self, bucket: str, limit: RateLimit) -> None:
        check_bucket(bucket)
        check_limit(limit)
        self._change(bucket, lambda known: known.limited(limit))

    def reserve(self, bucket: str, want: int, now: Instant) -> Reservation:
        check_bucket(bucket)
        check_want(want)
        grant = Reservation(0, now, 0.0)

        def take(known: Bucket) -> Bucket:
            nonlocal grant
            grant, after = known.reserved(want, now)
            return after

        self._change(bucket, take)
        return grant

    def refund(self, bucket: str, count: int, now: Instant) -> None:
        check_bucket(bucket)
        check_refund(count)
        self._change(bucket, lambda known: known.refunded(count, now), once=True)

    def slow(self, bucket: str, seen_per_second: float, now: Instant) -> None:
        check_bucket(bucket)
        check_seen(seen_per_second)
        self._change(bucket, lambda known: known.slowed(seen_per_second, now))

    def current(self, bucket: str, now: Instant) -> float | None:
        check_bucket(bucket)
        return self._read(bucket).bucket.rate(now)

    def used_up(self, bucket: str, now: Instant) -> UsedUp | None:
        check_bucket(bucket)
        return self._read(bucket).bucket.used_up(now)

    def _change(self, name: str, change: Callable[[Bucket], Bucket], *, once: bool = False) -> None:
        """Store `change(bucket)` if it differs. `once`: in doubt, do not apply the change a second time."""
        known: _Known | None = None
        for attempt in range(_TRIES):
            if known is None:
                known = self._read(name)
            after = change(known.bucket)
            if after == known.bucket:
                return
            mark = self._table.mark()
            terms = Expression()
            demand = terms.equals("version", known.version or None)
            written = self._table.put(_record(name, after, known.version + 1, mark), demand, terms)
            if written.applied or (written.item is not None and written.item.get("mark") == mark):
                return
            if once and written.repeated:
                return
            known = self._pause(attempt, written.item)
        raise Unavailable(f"other writers kept changing the rate of {name}: nothing was reserved or refunded")

    def _pause(self, attempt: int, found: Record | None) -> _Known | None:
        """Pause. Returns the bucket for the next try: the refusal's if there was no pause, else None (read it again)."""
        if attempt < 1:
            return _known(found)
        self._clock.sleep(min(_PAUSE_MAX_S, _PAUSE_S * 2**attempt) * random.random())  # noqa: S311 - jitter
        return None

    def _read(self, name: str) -> _Known:
        return _known(self._table.get(_address(name)))


def _address(name: str) -> PrimaryKey:
    return PrimaryKey(f"R#{name}", "rates")


def _record(name: str, bucket: Bucket, version: int, mark: str) -> Record:
    at = _address(name)
    return {"pk": at.pk, "sk": at.sk, "data": json.dumps(bucket._asdict()), "version": version, "mark": mark}


def _known(record: Record | None) -> _Known:
    if record is None:
        return _Known(Bucket(), 0)
    try:
        return _Known(Bucket(**json.loads(str(record["data"]))), int(record["version"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"the bucket {record['pk']!r} cannot be read: {error}") from error
